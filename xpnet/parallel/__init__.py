"""Several processes that train one model: `join` gives the group that this process was started in."""

from xpnet.parallel.group import ALONE, Group, OthersFailed
from xpnet.parallel.mpi import join

__all__ = ["ALONE", "Group", "OthersFailed", "join"]
