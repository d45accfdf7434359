"""A release's fairness policies as a table for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ranking.fairness.policy import FairnessPolicy, GroupRule, Share
from ranking.release import Release


def table(release: Release) -> Table:
    """One line per policy: where it is the default, what it promises to whom, how ads are priced."""
    out = Table(title=f"policies of release {release.id}", title_justify="left")
    for column in ("policy", "version", "default of", "mode", "scope", "promises", "page", "score", "ads"):
        out.add_column(column)
    for policy in release.policies.values():
        defaults = ", ".join(s.value for s, name in release.active_policy.items() if name == policy.name)
        promises = "\n".join(rule_text(rule) for rule in policy.rules) or "—"
        page = (str(policy.page_length) if policy.page_length else "all") + (f" behind {policy.free_places}" if policy.free_places else "")
        score = " + ".join(f"{weight:g} {name}" for name, weight in policy.objectives.items() if weight)
        # Text and not str: a seller named [bold] is no markup.
        cells = (policy.name, policy.version, defaults, policy.mode, _scope(policy), promises, page, score, _ads(policy))
        out.add_row(*(Text(cell) for cell in cells))
    return out


def rule_text(rule: GroupRule) -> str:
    """A rule in words, e.g. "popularity_tier: tail ≥ 0.2, head ≤ 0.8"."""
    floors = [f"{group} ≥ {_share(share)}" for group, share in rule.floors.items()]
    ceilings = [f"{group} ≤ {share:.3g}" for group, share in rule.ceilings.items()]
    return f"{rule.attribute}: {', '.join(floors + ceilings) or 'nothing'}"


def _share(share: Share) -> str:
    return (
        f"{share.value:.3g}" + {"fixed": "", "of_candidates": " × its candidates' share", "of_merit": " × its share of merit"}[share.kind]
    )


def _scope(policy: FairnessPolicy) -> str:
    return policy.scope if policy.scope == "list" else f"{policy.scope} ({policy.controller.kind}, gain {policy.controller.gain:g})"


def _ads(policy: FairnessPolicy) -> str:
    parts = [f"{policy.pricing}, reserve {policy.reserve_micros / 1e6:g}"]
    parts += [f"budgets of {len(policy.pacing.daily_budget_micros)} by {policy.pacing.attribute}"] if policy.pacing else []
    parts += [f"slots {', '.join(map(str, policy.ad_slots))}"] if policy.ad_slots else []
    return "\n".join(parts)
