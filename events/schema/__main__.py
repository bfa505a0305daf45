"""Write the published documents: `python -m events.schema [directory]`, by default `ops`."""

import sys
from pathlib import Path

from events.schema.publish import documents


def main(directory: Path) -> None:
    """Write every document below `directory`, and remove schemas of what is no more."""
    texts = documents()
    (directory / "schema").mkdir(parents=True, exist_ok=True)
    for old in (directory / "schema").glob("*.json"):
        if f"schema/{old.name}" not in texts:
            old.unlink()
    for path, text in texts.items():
        (directory / path).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(texts)} documents written to {directory}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "ops"))
