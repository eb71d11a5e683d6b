"""The published JSON Schemas: of rule files, packs and plans."""

from __future__ import annotations


def read_schema(name: str) -> str:
    """A schema as JSON text: ``packs``, ``plan`` or ``rules``.

    That of packs holds that of rule files, so that it can be used alone.
    """
    import json
    from importlib.resources import files

    text = files("ckptmigrate.schemas").joinpath(f"{name}-1.json").read_text(encoding="utf-8")
    if name != "packs":
        return text
    schema, rules = json.loads(text), json.loads(read_schema("rules"))
    schema["$defs"] |= {**rules["$defs"], "rules": rules["properties"]["rules"]}
    return json.dumps(schema, indent=1) + "\n"
