"""What users write today: load each tensor, assign it to the new tree, write that: SOURCE OUT COUNT WIDTH SLOTS."""

import sys

import tensorflow as tf
from renamed_model import SOURCE, TARGET, build

source, out, count, width, slots = *sys.argv[1:3], *map(int, sys.argv[3:6])
checkpoint = build(TARGET, count, width, slots)
reader = tf.train.load_checkpoint(source)
for number, block in enumerate(getattr(checkpoint.model, TARGET.blocks)):
    for old, new in ((SOURCE.weight, TARGET.weight), (SOURCE.bias, TARGET.bias)):
        variable = getattr(block, new)
        path = f"model/{SOURCE.blocks}/{number}/{old}"
        variable.assign(reader.get_tensor(f"{path}/.ATTRIBUTES/VARIABLE_VALUE"))
        for slot in ("m", "v") if slots else ():
            checkpoint.optimizer.get_slot(variable, slot).assign(
                reader.get_tensor(f"{path}/.OPTIMIZER_SLOT/optimizer/{slot}/.ATTRIBUTES/VARIABLE_VALUE")
            )
if slots:
    for name in ("iter", "beta_1", "beta_2", "decay", "learning_rate"):
        value = reader.get_tensor(f"optimizer/{name}/.ATTRIBUTES/VARIABLE_VALUE")
        getattr(checkpoint.optimizer, "iterations" if name == "iter" else name).assign(value)
checkpoint.write(out)
