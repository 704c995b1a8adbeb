"""The published figures: sourced, each with its protocol, and never mixed."""

from __future__ import annotations

import pytest

from openvalle.errors import ConfigError
from openvalle.evaluate.protocols import PublishedTable, protocols, published, published_for


def test_every_table_has_a_source_and_names_what_its_figures_are():
    for table in published():
        assert len(table.source) > 20
        assert table.source in table.caption()
        assert table.rows
        for row in table.rows:
            assert row.figures, (table.id, row.system)
    assert len({table.id for table in published()}) == len(published())


def test_every_protocol_of_a_paper_has_its_figures():
    for name, entry in protocols().items():
        assert bool(published_for(name)) == bool(entry.paper), name


def test_only_tables_of_the_protocol_are_given():
    assert {table.protocol for table in published_for("valle")} == {"valle"}
    assert published_for("quick") == []


def test_well_known_figures_are_where_they_belong():
    valle = {row.system: row.figures for row in published_for("valle")[0].rows}
    assert valle["VALL-E"] == {"wer": 5.9, "similarity": 0.580}
    original = next(row for row in published_for("valle")[0].rows if row.role == "original")
    assert original.figures == {"wer": 2.2, "similarity": 0.754}
    assert "HuBERT" in published_for("valle")[0].columns["wer"]
    assert "SIM-r" in published_for("valle")[0].columns["similarity"]


def test_a_figure_without_a_column_is_refused():
    values = {"id": "x", "protocol": "valle", "source": "s", "hand": "first", "samples": "1", "columns": {"wer": "WER"}}
    with pytest.raises(ConfigError, match="figures without a column"):
        PublishedTable.parse(values | {"rows": [{"system": "a", "sim": 1.0}]}, "published.yaml")
