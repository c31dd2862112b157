"""A report of one or several runs: findings, pictures and tables on a page that stands alone."""

from lightning_id.report.command import write_report

__all__ = ["write_report"]
