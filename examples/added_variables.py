"""The model has two variables more than its checkpoint: how the gap is hidden, seen, and closed.

python examples/added_variables.py [FOLDER]
"""

import sys
import tempfile

import tensorflow as tf

import ckptmigrate as cm


class ModelV1(tf.Module):
    def __init__(self):
        super().__init__()
        self.w1 = tf.Variable(tf.random.normal([4, 4]))
        self.b1 = tf.Variable(tf.random.normal([4]))


class ModelV2(ModelV1):
    def __init__(self):
        super().__init__()
        self.w2 = tf.Variable(tf.random.normal([4, 2]))
        self.b2 = tf.Variable(tf.zeros([2]))


def build_v2():
    return tf.train.Checkpoint(model=ModelV2())


def main(folder):
    v1 = ModelV1()
    saved = tf.train.Checkpoint(model=v1).save(f"{folder}/v1")

    build_v2().restore(saved).expect_partial()
    print("expect_partial: not a word of w2 and b2, which keep whatever they were made with")
    try:
        build_v2().restore(saved).assert_existing_objects_matched()
    except AssertionError as error:
        print(f"assert_existing_objects_matched: {str(error).partition(',')[0]}")
    else:
        raise AssertionError("the gap was not seen")

    # The new model as ckptmigrate sees it: a checkpoint of its fresh initial values.
    template = cm.write_template(build_v2, f"{folder}/template").prefix
    with cm.Bundle.open(saved) as source, cm.Bundle.open(template) as target:
        plan = cm.plan_bundles(source, target, init_new=True)

    print("\nthe plan:")
    for step in plan.steps:
        print(f"  {step.target.split('/.')[0]:<14}{step.status:<9}{step.evidence[0]}")
    status = {step.target.split("/.")[0]: step.status for step in plan.steps}
    assert status["model/w1"] == status["model/b1"] == "exact"
    assert status["model/w2"] == status["model/b2"] == "initial"

    migrated = f"{folder}/v2"
    cm.apply_plan(plan, migrated)
    assert cm.verify_checkpoint(migrated, build_v2, plan=plan).passed

    v2 = build_v2()
    v2.restore(migrated).assert_consumed()
    assert (v2.model.w1.numpy() == v1.w1.numpy()).all()
    print(f"\nassert_consumed passes for {migrated}: v1's values in w1 and b1, and all of v2 accounted for")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
