import pytest

from conceptseg.qupath.project.contents import concept_number, concept_numbers


@pytest.mark.parametrize("text", ["", "²", "１", "-1", "1.5", "one", "9" * 5000])
def test_metadata_that_name_no_concept_are_passed_over(text):
    assert concept_number(text) is None
    assert concept_numbers(f"3,{text},12") == (3, 12)
