"""What a study adds to the report of its folder: data, escaped, and only of runs that are asked for."""

from dataclasses import replace

import pytest

from experiments.report.sections import FILE_NAME, PNG, Section, picture_uri, read_sections, write_sections

SECTION = Section("Title", ["a" * 16], "Text", ["one", "two"], [["1", "2"], ["3", "4"]], "figures/map.png", "a map")


def test_sections_are_read_as_they_were_written(tmp_path):
    write_sections(tmp_path, [SECTION, replace(SECTION, title="<b>", header=[], rows=[])])
    assert read_sections(tmp_path) == [SECTION, replace(SECTION, title="<b>", header=[], rows=[])]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}x",
        "[1]",
        '[{"title": 1, "run_ids": []}]',
        '[{"title": "a", "run_ids": "b"}]',
        '[{"title": "a", "run_ids": [], "header": ["x"], "rows": [["1", "2"]]}]',
        '[{"title": "a", "run_ids": [], "header": ["x"], "rows": [[1]]}]',
        '[{"title": "a", "run_ids": [], "rows": 3}]',
        '[{"title": "a", "run_ids": [], "script": "x"}]',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_has_no_sections(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    assert read_sections(tmp_path) == []


def test_pictures_are_small_png_files_of_the_folder(tmp_path):
    folder = tmp_path / "sweep"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "map.png").write_bytes(PNG + b"rest")
    assert picture_uri(folder, "figures/map.png").startswith("data:image/png;base64,iVBORw0KGgpyZXN0")
    (tmp_path / "outside.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "text.png").write_text("no picture")
    (folder / "large.png").write_bytes(PNG + bytes(2 << 20))
    for name in (
        "../outside.png",
        str(tmp_path / "outside.png"),
        "link.png",
        "text.png",
        "large.png",
        "figures",
        "",
        "\0",
    ):
        assert picture_uri(folder, name) == "", name
