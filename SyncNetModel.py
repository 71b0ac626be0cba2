"""SyncNet: mouth against voice. What lies behind this door: `visavox/features/syncnet.py`.

network = SyncNetModel.load(state_dict)             # published parameter names
from SyncNetModel import SyncNet
"""

from visavox.features.syncnet import FoldedSyncNet, LocalEmbedder, SyncNet, load, mean_distances, sync_distances

__all__ = ["FoldedSyncNet", "LocalEmbedder", "SyncNet", "load", "mean_distances", "sync_distances"]
