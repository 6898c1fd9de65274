"""The result store: what is written is whole and checked, or not there."""

from experiments.store.object_folder import Location, parse_location
from experiments.store.shards import Checkpoint, Contents, Store

__all__ = ["Checkpoint", "Contents", "Location", "Store", "parse_location"]
