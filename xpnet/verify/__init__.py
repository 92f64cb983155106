"""Verification: independent checks of every layer, loss and optimizer, and a one-line check for your own."""

from xpnet.verify.check import check, check_loss
from xpnet.verify.parity import parity
from xpnet.verify.report import CheckFailed, Finding, Report

__all__ = ["CheckFailed", "Finding", "Report", "check", "check_loss", "parity"]
