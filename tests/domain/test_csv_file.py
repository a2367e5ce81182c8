import csv

import pytest

from conceptseg.domain.csv_file import write_csv


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_text_that_begins_like_a_formula_is_text(tmp_path, start):
    write_csv(tmp_path / "a.csv", ["name"], [{"name": f'{start}HYPERLINK("http://x.example","a,b")'}])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["name"] == f'\'{start}HYPERLINK("http://x.example","a,b")'


def test_numbers_and_other_text_stay_as_they_are(tmp_path):
    row = {"number": -1.5, "count": 3, "none": None, "name": "Fett, µm; =1"}
    write_csv(tmp_path / "a.csv", list(row), [row])
    assert (tmp_path / "a.csv").read_bytes() == 'number,count,none,name\r\n-1.5,3,,"Fett, µm; =1"\r\n'.encode()
