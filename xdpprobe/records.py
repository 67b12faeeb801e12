# SPDX-License-Identifier: Apache-2.0
"""Records of the data plane (struct flow_record) as a snapshot, which all else works on."""

from dataclasses import replace

import numpy as np

from xdpprobe.snapshot import Array, Snapshot


def of_records(records: Array, base: Snapshot) -> Snapshot:
    """Records (struct flow_record) as a snapshot, so that `decode` and filters work on them.

    base: a reading of the same probe, for clock, labels, enums, interfaces, and for the names of
    records that come without (only the record of the verdict carries the text).
    """
    hot, cold, text = records["hot"].copy(), records["cold"].copy(), records["name"]
    # Every record is a whole flow, also one whose table entry was given up for it.
    hot["tag"] = cold["tag"] = 1
    given = text[:, 0] != 0
    # The bytes behind the first NUL are left from older records.
    length = np.where((text == 0).any(axis=1), (text == 0).argmax(axis=1), text.shape[1] - 1)
    names = np.zeros(int(given.sum()), dtype=base.names.dtype)
    names["hash"] = cold["name"][given]
    names["length"], names["text"] = length[given], text[given]
    missing = np.flatnonzero(np.isin(base.names["hash"], cold["name"][~given & (cold["name"] > 1)]))
    names = np.concatenate((names, base.names.take(missing)))
    return replace(base, hot=hot, cold=cold, names=names)
