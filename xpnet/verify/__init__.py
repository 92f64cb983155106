"""Proof: independent witnesses of every layer, loss and optimizer, and the one-line check of your own."""

from xpnet.verify.check import check, check_loss
from xpnet.verify.parity import parity
from xpnet.verify.report import CheckFailed, Finding, Report

__all__ = ["CheckFailed", "Finding", "Report", "check", "check_loss", "parity"]
