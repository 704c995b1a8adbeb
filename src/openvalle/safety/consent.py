"""Whether a voice may be used: who agreed to it, and how strictly that is asked for.

A record is what a person wrote down; nobody can check it here. It travels with the voice, and the policy decides
what happens to a voice without one.
"""

from __future__ import annotations

import logging
import os
from enum import StrEnum

from openvalle.errors import UserError, find_choice

log = logging.getLogger(__name__)

SETTING = "OPENVALLE_CONSENT"  # environment variable with the policy


class ConsentPolicy(StrEnum):
    """What happens to a voice without a record of consent."""

    OFF = "off"  # nothing
    WARN = "warn"  # it is used, with a warning
    REQUIRE = "require"  # it is refused


def choose_policy(policy: str | None = None) -> ConsentPolicy:
    """Return the policy called `policy`, by default what the setting says, else `warn`; `ConfigError` if unknown."""
    name = policy if policy is not None else os.environ.get(SETTING) or ConsentPolicy.WARN
    what = "consent policy" if policy is not None else f"consent policy (${SETTING})"
    return find_choice(ConsentPolicy, name.strip().lower(), what)


def require_consent(consent: str, name: str, policy: ConsentPolicy) -> None:
    """Apply the policy to the voice `name` with the record `consent`; `UserError` if it may not be used."""
    if consent.strip() or policy is ConsentPolicy.OFF:
        return
    if policy is ConsentPolicy.REQUIRE:
        raise UserError(
            f"no consent is recorded for the voice {name!r}", "say who agreed to its use, and when, with --consent"
        )
    log.warning("no consent is recorded for the voice %r: say who agreed to its use, and when, with --consent", name)
