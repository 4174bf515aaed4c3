"""The catalogue as it is checked in."""

from pathlib import Path

import kaon.words
from kaon.words.catalogue import read

TEXT = (Path(kaon.words.__file__).parent / kaon.words.CATALOGUE).read_text(encoding="utf-8")
IDS = sorted(read(TEXT))
