"""How Hypothesis looks for failures here: by the suite's seed, and in no hurry."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# What is tested takes microseconds; a machine that is busy is no failure.
settings.register_profile("protocol", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("protocol")
