"""The published figures: sourced, each with its protocol, and never mixed."""

from __future__ import annotations

import pytest

from openvalle.errors import ConfigError
from openvalle.evaluate.protocols import PublishedTable, find_published, protocols, read_published


def test_every_table_has_a_source_and_names_what_its_figures_are():
    for table in read_published():
        assert len(table.source) > 20
        assert table.source in table.caption()
        assert table.rows
        for row in table.rows:
            assert row.figures, (table.id, row.system)
    assert len({table.id for table in read_published()}) == len(read_published())


def test_every_protocol_of_a_paper_has_its_figures():
    for name, entry in protocols().items():
        assert bool(find_published(name)) == bool(entry.paper), name


def test_only_tables_of_the_protocol_are_given():
    assert {table.protocol for table in find_published("valle")} == {"valle"}
    assert find_published("quick") == []


def test_well_known_figures_are_where_they_belong():
    valle = {row.system: row.figures for row in find_published("valle")[0].rows}
    assert valle["VALL-E"] == {"wer": 5.9, "similarity": 0.580}
    original = next(row for row in find_published("valle")[0].rows if row.role == "original")
    assert original.figures == {"wer": 2.2, "similarity": 0.754}
    assert "HuBERT" in find_published("valle")[0].columns["wer"]
    assert "SIM-r" in find_published("valle")[0].columns["similarity"]


def test_a_figure_without_a_column_is_refused():
    values = {"id": "x", "protocol": "valle", "source": "s", "hand": "first", "samples": "1", "columns": {"wer": "WER"}}
    with pytest.raises(ConfigError, match="figures without a column"):
        PublishedTable.parse(values | {"rows": [{"system": "a", "sim": 1.0}]}, "published.yaml")
