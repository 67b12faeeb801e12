# SPDX-License-Identifier: Apache-2.0
"""From [[signature]] tables to the data plane's match tables; `compiler.py` is the way in."""
