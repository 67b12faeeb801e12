# SPDX-License-Identifier: Apache-2.0
"""The oracle: what the data plane must find, written again from the RFCs, in plain Python.

Nothing here shares code with bpf/, so that a mistake has to be made twice to go unnoticed. Parsers
of a byte stream have three outcomes: a value, None (more bytes are needed), ValueError (no such
message).
"""
