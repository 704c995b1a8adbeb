"""The policy decides what happens to a voice without consent; one with consent is never asked about."""

from __future__ import annotations

import logging

import pytest

from openvalle.errors import ConfigError, UserError
from openvalle.safety.consent import SETTING, ConsentPolicy, choose_policy, require_consent


def test_warning_is_the_default_and_the_setting_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert choose_policy() is ConsentPolicy.WARN
    monkeypatch.setenv(SETTING, "Require")
    assert choose_policy() is ConsentPolicy.REQUIRE
    assert choose_policy("off") is ConsentPolicy.OFF, "what is asked for here comes before the setting"


@pytest.mark.parametrize("given", ["always", "", "1"])
def test_unknown_policy_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="off, warn, require"):
        choose_policy(given)


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "never")
    with pytest.raises(ConfigError, match=SETTING):
        choose_policy()


@pytest.mark.parametrize("policy", ConsentPolicy)
def test_what_happens_without_consent(policy: ConsentPolicy, caplog: pytest.LogCaptureFixture) -> None:
    require_consent("Anna, 2026-01-01", "anna", policy)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        if policy is ConsentPolicy.REQUIRE:
            with pytest.raises(UserError, match=r"'anna'.*--consent"):
                require_consent("  ", "anna", policy)
        else:
            require_consent("  ", "anna", policy)
    assert len(caplog.records) == (policy is ConsentPolicy.WARN)
