"""Write a checkpoint of the model before the rename and one after it: FOLDER COUNT WIDTH SLOTS."""

import sys

from renamed_model import SOURCE, TARGET, build

folder, count, width, slots = sys.argv[1], *map(int, sys.argv[2:5])
build(SOURCE, count, width, slots, value=1.0).write(f"{folder}/source")
build(TARGET, count, width, slots).write(f"{folder}/target")
