"""How far a projection is to be trusted: three questions, a file each, and the verdict."""

from unconv.reverse.trust.occlusion import Occlusion
from unconv.reverse.trust.sending import refuse_regions
from unconv.reverse.trust.verdict import Trust, trust

__all__ = ["Occlusion", "Trust", "refuse_regions", "trust"]
