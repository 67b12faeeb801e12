# SPDX-License-Identifier: Apache-2.0
"""Why a flow is called what it is called: of a capture (`observe.py`), of the probe (`live.py`)."""
