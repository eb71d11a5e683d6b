"""Fail unless checkpoints hold the same tensors under the same keys: PREFIX PREFIX..."""

import sys

from ckptmigrate import Bundle

contents = {}
for prefix in sys.argv[1:]:
    with Bundle.open(prefix) as bundle:
        contents[prefix] = {
            key: (entry.spec, entry.crc32c) for key, entry in bundle.entries.items() if not key.startswith("_")
        }
first, *others = contents
for other in others:
    if contents[other] != contents[first]:
        sys.exit(f"{other} is not what {first} is")
