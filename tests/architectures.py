"""Models as trees of parts and weights, as people build them: what the refactorings start from.

A part is a layer, a block, a list or a model; a weight is one variable. Both are compared by identity. Nothing
here is a checkpoint yet: `layouts` says what each framework makes of a tree.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

ATOMIC = frozenset(
    """
    dense conv2d batch_normalization layer_normalization rms_normalization embedding lstm gru bidirectional
    multi_head_attention
    """.split()  # noqa: SIM905  # a list of this many strings is no easier to read
)
"""The layers that a framework ships: what they hold has the framework's names, and nobody renames it."""

LISTS = ("list", "flow")


@dataclass(eq=False)
class Weight:
    """A variable.

    Attributes:
        shape: Its shape.
        trainable: Whether optimizers keep slots for it.
        dtype: Its dtype.
        origin: In a target: the source's weights that its values come from, in the order of the operation.
        ops: In a target: what happens to them on the way.
    """

    shape: tuple[int, ...]
    trainable: bool = True
    dtype: str = "float32"
    origin: tuple["Weight", ...] = ()
    ops: tuple = ()


@dataclass(eq=False)
class Part:
    """A layer, a block, a model, or a list of them.

    Attributes:
        kind: A layer's type, or a class of the user's; parts of one kind come from one piece of code.
        children: What it holds, by attribute; a list's by index.
        form: ``object``; ``list`` for a list; ``flow`` for a functional model, whose layers are numbered.
        given: The name that a person gave it; empty if the framework names it.
        after: How many layers without weights follow it in a flow.
        origin: In a target: the part of the source that it was; None if it is new.
        carved: In a target: of a new part that holds what another held, that one's origin.
    """

    kind: str
    children: dict = field(default_factory=dict)
    form: str = "object"
    given: str = ""
    after: int = 0
    origin: "Part | None" = None
    carved: "Part | None" = None

    @property
    def is_atomic(self):
        return self.kind in ATOMIC

    @property
    def home(self):
        """What held the same in the source; the part itself if nothing did."""
        return self.origin or self.carved or self


def listed(kind, items, form="list"):
    """A list of parts."""
    return Part(kind, {str(number): item for number, item in enumerate(items)}, form)


def parts_below(part) -> Iterator[tuple["Part | None", str, "Part"]]:
    """Every part with its holder and its label, the outer before the inner. One in two places comes twice."""
    stack = [(None, "", part)]
    while stack:
        holder, label, current = stack.pop()
        yield holder, label, current
        inner = [(current, name, child) for name, child in current.children.items() if isinstance(child, Part)]
        stack.extend(reversed(inner))


def weights_below(part) -> list[Weight]:
    """Every weight once, in the order of the tree."""
    found = {}
    for _, _, current in parts_below(part):
        found.update((child, None) for child in current.children.values() if isinstance(child, Weight))
    return list(found)


def look_of(thing):
    """What can be seen of a part without its own name: labels, shapes, dtypes."""
    if isinstance(thing, Weight):
        return thing.shape, thing.dtype
    return tuple((label, look_of(child)) for label, child in thing.children.items())


# Layers.


def dense(inputs, outputs, *, bias=True):
    return Part("dense", {"kernel": Weight((inputs, outputs)), **({"bias": Weight((outputs,))} if bias else {})})


def conv(size, inputs, outputs, *, bias=True):
    weights = {"kernel": Weight((size, size, inputs, outputs)), **({"bias": Weight((outputs,))} if bias else {})}
    return Part("conv2d", weights)


def batch_norm(width):
    still = {name: Weight((width,), trainable=False) for name in ("moving_mean", "moving_variance")}
    return Part("batch_normalization", {"gamma": Weight((width,)), "beta": Weight((width,)), **still})


def layer_norm(width):
    return Part("layer_normalization", {"gamma": Weight((width,)), "beta": Weight((width,))})


def rms_norm(width):
    return Part("rms_normalization", {"scale": Weight((width,))})


def embedding(rows, width):
    return Part("embedding", {"embeddings": Weight((rows, width))})


def lstm(inputs, width):
    weights = {
        "kernel": Weight((inputs, 4 * width)),
        "recurrent_kernel": Weight((width, 4 * width)),
        "bias": Weight((4 * width,)),
    }
    return Part("lstm", {"cell": Part("lstm_cell", weights)})


def gru(inputs, width):
    weights = {
        "kernel": Weight((inputs, 3 * width)),
        "recurrent_kernel": Weight((width, 3 * width)),
        "bias": Weight((2, 3 * width)),
    }
    return Part("gru", {"cell": Part("gru_cell", weights)})


def bidirectional(layer, inputs, width):
    return Part("bidirectional", {"forward_layer": layer(inputs, width), "backward_layer": layer(inputs, width)})


def multi_head(width, heads):
    """Keras's own attention: kernels with an axis for the heads."""
    each = width // heads
    inner = {}
    for label, name in (("_query_dense", "query"), ("_key_dense", "key"), ("_value_dense", "value")):
        inner[label] = Part("einsum_dense", {"kernel": Weight((width, heads, each)), "bias": Weight((heads, each))})
        inner[label].given = name
    out = Part("einsum_dense", {"kernel": Weight((heads, each, width)), "bias": Weight((width,))})
    out.given = "attention_output"
    return Part("multi_head_attention", {**inner, "_output_dense": out})


# Models. Each takes a random generator and gives the parts that a checkpoint's keywords name.


def stack(rng, stem, items):
    """Blocks in a list, or as numbered attributes."""
    if rng.random() < 0.6:
        return {stem + rng.choice(("s", "_list", "")): listed(stem + "s", items)}
    form = rng.choice(("{stem}{n}", "{stem}_{n}"))
    first = rng.choice((0, 1))
    return {form.format(stem=stem, n=first + number): item for number, item in enumerate(items)}


def mlp(rng):
    width = rng.choice((8, 12, 16))
    inputs, classes = rng.choice((5, 7, 20)), rng.choice((2, 3, 10))
    widths = [inputs, *(rng.choice((width, width, 2 * width)) for _ in range(rng.randint(2, 6)))]
    layers = [dense(i, o) for i, o in pairwise(widths)]
    norms = {"norm": layer_norm(widths[-1])} if rng.random() < 0.4 else {}
    stem = rng.choice(("dense", "fc", "hidden", "layer"))
    return {"model": Part("mlp", {**stack(rng, stem, layers), **norms, "head": dense(widths[-1], classes)})}


def resnet(rng):
    width = rng.choice((4, 8))
    inner = {"stem": Part("conv_bn", {"conv": conv(3, 3, width, bias=False), "bn": batch_norm(width)})}
    inputs = width
    for stage in range(rng.randint(1, 3)):
        outputs = width * 2**stage
        blocks = []
        for number in range(rng.randint(1, 4)):
            block = {
                "conv1": conv(3, inputs, outputs, bias=False),
                "bn1": batch_norm(outputs),
                "conv2": conv(3, outputs, outputs, bias=False),
                "bn2": batch_norm(outputs),
            }
            if number == 0 and inputs != outputs:
                block["shortcut"] = conv(1, inputs, outputs, bias=False)
            # One class, whose instances differ by an argument.
            blocks.append(Part("res_block", block))
            inputs = outputs
        inner[f"stage{stage + 1}"] = listed("stages", blocks)
    return {"model": Part("res_net", {**inner, "head": dense(inputs, rng.choice((10, 100)))})}


def inception(rng):
    width, inputs = rng.choice((4, 6)), rng.choice((6, 8))

    def unit(size, i, o):
        return Part("conv_bn", {"conv": conv(size, i, o, bias=False), "bn": batch_norm(o)})

    mixed = []
    for _ in range(rng.randint(2, 4)):
        branches = {
            "branch1x1": unit(1, inputs, width),
            "branch3x3_1": unit(1, inputs, width),
            "branch3x3_2": unit(3, width, width),
            "branch5x5_1": unit(1, inputs, width),
            "branch5x5_2": unit(5, width, width),
            "branch_pool": unit(1, inputs, width),
        }
        mixed.append(Part("inception_block", branches))
        inputs = 4 * width
    return {
        "model": Part("inception", {"stem": unit(3, 3, 8), **stack(rng, "mixed", mixed), "head": dense(inputs, 10)})
    }


def bert(rng):
    """An encoder with the names of transformers' BERT."""
    width, rows = rng.choice((8, 12)), rng.choice((50, 97))

    def block():
        inner = {name: dense(width, width) for name in ("query", "key", "value")}
        attention = {
            "self_attention": Part("self_attention", inner),
            "output": Part("self_output", {"dense": dense(width, width), "LayerNorm": layer_norm(width)}),
        }
        output = {"dense": dense(4 * width, width), "LayerNorm": layer_norm(width)}
        return Part(
            "bert_layer",
            {
                "attention": Part("bert_attention", attention),
                "intermediate": Part("bert_intermediate", {"dense": dense(width, 4 * width)}),
                "bert_output": Part("bert_output", output),
            },
        )

    embeddings = {
        "word_embeddings": embedding(rows, width),
        "position_embeddings": embedding(32, width),
        "token_type_embeddings": embedding(2, width),
        "LayerNorm": layer_norm(width),
    }
    inner = {
        "embeddings": Part("bert_embeddings", embeddings),
        "encoder": Part("bert_encoder", stack(rng, "layer", [block() for _ in range(rng.randint(2, 6))])),
    }
    if rng.random() < 0.7:
        inner["pooler"] = Part("bert_pooler", {"dense": dense(width, width)})
    body = Part("bert_main", inner)
    return {"model": Part("bert", {"bert": body, "classifier": dense(width, rng.choice((2, 3)))})}


def hub(rng):
    """An encoder with the names of keras-hub's layers."""
    width, heads = rng.choice(((8, 2), (12, 3))), 0
    width, heads = width

    def block():
        return Part(
            "transformer_encoder",
            {
                "_self_attention_layer": multi_head(width, heads),
                "_self_attention_layer_norm": layer_norm(width),
                "_feedforward_intermediate_dense": dense(width, 4 * width),
                "_feedforward_output_dense": dense(4 * width, width),
                "_feedforward_layer_norm": layer_norm(width),
            },
        )

    inner = {
        "token_embedding": embedding(rng.choice((50, 97)), width),
        "position_embedding": embedding(24, width),
        "embeddings_layer_norm": layer_norm(width),
        **stack(rng, "transformer_layer", [block() for _ in range(rng.randint(2, 6))]),
        "pooled_dense": dense(width, width),
    }
    return {"model": Part("hub_classifier", {"backbone": Part("backbone", inner), "logits": dense(width, 2)})}


def gpt(rng):
    width, heads, rows = *rng.choice(((8, 2), (12, 3), (16, 4))), rng.choice((50, 97))
    del heads

    def block():
        return Part(
            "gpt_block",
            {
                "ln_1": layer_norm(width),
                "attn": Part("fused_attention", {"c_attn": dense(width, 3 * width), "c_proj": dense(width, width)}),
                "ln_2": layer_norm(width),
                "mlp": Part("gpt_mlp", {"c_fc": dense(width, 4 * width), "c_proj": dense(4 * width, width)}),
            },
        )

    words = embedding(rows, width)
    inner = {
        "wte": words,
        "wpe": embedding(32, width),
        **stack(rng, "h", [block() for _ in range(rng.randint(2, 6))]),
        "ln_f": layer_norm(width),
    }
    model = {"transformer": Part("gpt_main", inner)}
    if rng.random() < 0.5:
        # The head's kernel is the embeddings' variable.
        model["lm_head"] = Part("tied_head", {"weight": words.children["embeddings"]})
    return {"model": Part("gpt", model)}


def llama(rng):
    width, rows, inner_width = rng.choice((8, 12)), rng.choice((50, 97)), rng.choice((20, 24))

    def block():
        attention = {name: dense(width, width, bias=False) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
        mlp = {
            "gate_proj": dense(width, inner_width, bias=False),
            "up_proj": dense(width, inner_width, bias=False),
            "down_proj": dense(inner_width, width, bias=False),
        }
        return Part(
            "llama_block",
            {
                "self_attn": Part("llama_attention", attention),
                "mlp": Part("llama_mlp", mlp),
                "input_layernorm": rms_norm(width),
                "post_attention_layernorm": rms_norm(width),
            },
        )

    inner = {
        "embed_tokens": embedding(rows, width),
        **stack(rng, "layer", [block() for _ in range(rng.randint(2, 6))]),
        "norm": rms_norm(width),
    }
    return {"model": Part("llama", {"decoder": Part("llama_main", inner), "lm_head": dense(width, rows, bias=False)})}


def t5(rng):
    width, inner_width = rng.choice((8, 12)), 20

    def attention():
        return Part("t5_attention", {name: dense(width, width, bias=False) for name in ("q", "k", "v", "o")})

    def block(*, decodes):
        layers = {"SelfAttention": attention(), "self_norm": rms_norm(width)}
        if decodes:
            layers |= {"EncDecAttention": attention(), "cross_norm": rms_norm(width)}
        layers["DenseReluDense"] = Part(
            "t5_ff", {"wi": dense(width, inner_width, bias=False), "wo": dense(inner_width, width, bias=False)}
        )
        return Part("t5_decoder_block" if decodes else "t5_encoder_block", {**layers, "final_norm": rms_norm(width)})

    count = rng.randint(1, 4)
    encoder = listed("blocks", [block(decodes=False) for _ in range(count)])
    decoder = listed("blocks", [block(decodes=True) for _ in range(count)])
    inner = {
        "shared": embedding(rng.choice((50, 97)), width),
        "encoder": Part("t5_stack", {"block": encoder, "final_layer_norm": rms_norm(width)}),
        "decoder": Part("t5_stack", {"block": decoder, "final_layer_norm": rms_norm(width)}),
    }
    return {"model": Part("t5", inner)}


def vit(rng):
    width, heads = rng.choice(((8, 2), (12, 3)))

    def block():
        return Part(
            "vit_block",
            {
                "norm1": layer_norm(width),
                "attn": multi_head(width, heads),
                "norm2": layer_norm(width),
                "mlp": Part("vit_mlp", {"fc1": dense(width, 2 * width), "fc2": dense(2 * width, width)}),
            },
        )

    inner = {
        "patch_embed": conv(4, 3, width),
        "tokens": Part("vit_tokens", {"cls_token": Weight((1, 1, width)), "pos_embed": Weight((1, 17, width))}),
        **stack(rng, "block", [block() for _ in range(rng.randint(2, 6))]),
        "norm": layer_norm(width),
        "head": dense(width, rng.choice((10, 100))),
    }
    return {"model": Part("vit", inner)}


def towers(rng):
    """Two towers: equal ones, or ones that only their inputs tell apart."""
    width, rows = rng.choice((8, 16)), rng.choice(((50, 50), (50, 70)))

    def tower(count):
        return Part(
            "tower",
            {"embedding": embedding(count, width), "fc1": dense(width, 2 * width), "fc2": dense(2 * width, width)},
        )

    names = rng.choice((("query_tower", "candidate_tower"), ("user_model", "item_model"), ("left", "right")))
    inner = {name: tower(count) for name, count in zip(names, rows, strict=True)}
    if rng.random() < 0.5:
        inner["scorer"] = dense(2 * width, 1)
    return {"model": Part("two_towers", inner)}


def gan(rng):
    width = rng.choice((4, 8))

    def generator():
        return Part(
            "generator",
            {
                "project": dense(16, 4 * width),
                "bn1": batch_norm(4 * width),
                "deconv1": conv(5, 4 * width, 2 * width),
                "bn2": batch_norm(2 * width),
                "deconv2": conv(5, 2 * width, 3),
            },
        )

    def discriminator():
        return Part(
            "discriminator",
            {"conv1": conv(5, 3, width), "conv2": conv(5, width, 2 * width), "out": dense(2 * width, 1)},
        )

    if rng.random() < 0.5:
        return {"generator": generator(), "discriminator": discriminator()}
    return {
        "generator_g": generator(),
        "generator_f": generator(),
        "discriminator_x": discriminator(),
        "discriminator_y": discriminator(),
    }


def recommender(rng):
    """Many tables, some of them of one shape, and a deep part."""
    names = ["user_id", "item_id", "country", "device", "category", "brand", "weekday", "hour", "language", "channel"]
    rng.shuffle(names)
    width = rng.choice((4, 8))
    tables = {name: embedding(rng.choice((7, 7, 24, 100, 131)), width) for name in names[: rng.randint(4, 10)]}
    inputs = len(tables) * width
    cross = [
        Part("cross_layer", {"w": Weight((inputs, inputs)), "b": Weight((inputs,))}) for _ in range(rng.randint(1, 3))
    ]
    deep = Part("deep", stack(rng, "dense", [dense(inputs, 16), *(dense(16, 16) for _ in range(rng.randint(1, 3)))]))
    inner = {
        "embeddings": Part("tables", tables),
        **stack(rng, "cross", cross),
        "deep": deep,
        "logit": dense(16 + inputs, 1),
    }
    return {"model": Part("ranker", inner)}


def unet(rng):
    width, depth = rng.choice((2, 4)), rng.randint(2, 4)

    def double(inputs, outputs):
        return Part(
            "double_conv",
            {
                "conv1": conv(3, inputs, outputs, bias=False),
                "bn1": batch_norm(outputs),
                "conv2": conv(3, outputs, outputs, bias=False),
                "bn2": batch_norm(outputs),
            },
        )

    widths = [width * 2**n for n in range(depth + 1)]
    down = [double(3 if not n else widths[n - 1], widths[n]) for n in range(depth)]
    up = [double(widths[n + 1] + widths[n], widths[n]) for n in reversed(range(depth))]
    inner = {
        **stack(rng, "down", down),
        "bottleneck": double(widths[depth - 1], widths[depth]),
        **stack(rng, "up", up),
        "out_conv": conv(1, width, 2),
    }
    return {"model": Part("u_net", inner)}


def recurrent(rng):
    width, layer = rng.choice((8, 12)), rng.choice((lstm, gru))
    count = rng.randint(1, 4)
    inner = {"embedding": embedding(rng.choice((50, 97)), width)}
    if rng.random() < 0.5:
        inner["bi_rnn"] = bidirectional(layer, width, width // 2)
    inner |= stack(rng, "rnn", [layer(width, width) for _ in range(count)])
    inner["attention"] = Part("additive", {"W1": dense(width, width), "W2": dense(width, width), "V": dense(width, 1)})
    return {"model": Part("tagger", {**inner, "head": dense(width, rng.choice((5, 9)))})}


def plain(rng):
    """A tf.Module that holds its variables itself, and in lists and dicts."""
    width = rng.choice((3, 6, 8))
    widths = [rng.choice((width, width, 2 * width)) for _ in range(rng.randint(2, 5))]
    matrices = {f"w{n + 1}": Weight((i, o)) for n, (i, o) in enumerate(pairwise(widths))}
    offsets = {f"b{n + 1}": Weight((o,)) for n, o in enumerate(widths[1:])}
    filters = Part("weights", {str(n): Weight((width, width)) for n in range(rng.randint(2, 5))}, "list")
    named = Part("weights_by_name", {name: Weight((width,)) for name in ("mean", "scale", "shift")})
    inner = {**matrices, **offsets, "filters": filters, "stats": named, "step_size": Weight(())}
    return {"model": Part("plain_module", inner)}


FAMILIES = {
    family.__name__: family
    for family in (
        mlp,
        resnet,
        inception,
        bert,
        hub,
        gpt,
        llama,
        t5,
        vit,
        towers,
        gan,
        recommender,
        unet,
        recurrent,
        plain,
    )
}


def model_of(family: str, rng: random.Random) -> Part:
    """The parts of a checkpoint, by its keywords."""
    return Part("checkpoint", FAMILIES[family](rng))
