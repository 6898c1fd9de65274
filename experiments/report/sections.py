"""What a study adds to the report of its folder: sections of text, a table and a picture, kept in `sections.json`.

A section is data: the page escapes all of it, and shows a picture as a data URI.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.analysis.results import read_kept
from experiments.store.small_files import write_small

FILE_NAME = "sections.json"
PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE = 1 << 20  # Bytes.


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        run_ids: the runs that it is about; a report without one of them leaves it out.
        text: a paragraph.
        header: of its table; none, no table.
        rows: the table's cells, as text.
        picture: a PNG file in the folder, such as `figures/map.png`; a file that is not there is left out.
        alt: the picture in words.
    """

    title: str
    run_ids: Sequence[str]
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: str = ""
    alt: str = ""

    def __post_init__(self) -> None:
        """Refuse a row of another length than the header."""
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"a row of a table is not as long as its header, {list(self.header)}")


def write_sections(folder: Path, sections: Sequence[Section]) -> None:
    """Save sections, in place of the last ones."""
    write_small(folder, FILE_NAME, [asdict(section) for section in sections])


def read_sections(folder: Path) -> list[Section]:
    """The sections of a sweep's folder; none where the file is missing or damaged."""
    return read_kept(list[Section], folder, FILE_NAME) or []


def picture_uri(folder: Path, picture: str) -> str:
    """A picture of the folder as a data URI; empty where there is none, or it is no small PNG file of this folder."""
    path = folder / picture
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return ""
        content = path.read_bytes()
    except (OSError, ValueError):
        return ""
    if not content.startswith(PNG) or len(content) > MAX_PICTURE:
        return ""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
