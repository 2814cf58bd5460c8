"""Jobs over many documents: durable, resumable, on one machine or several."""

from .runner import RunOptions, run_job
from .sources import Source, find_sources
from .spec import Column, ExtractSpec, JobSpec, ReaderSpec, SummarizeSpec
from .store import Item, Job, JobStore

__all__ = [
    "Column",
    "ExtractSpec",
    "Item",
    "Job",
    "JobSpec",
    "JobStore",
    "ReaderSpec",
    "RunOptions",
    "Source",
    "SummarizeSpec",
    "find_sources",
    "run_job",
]
