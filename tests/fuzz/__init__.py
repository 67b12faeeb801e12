# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: `make fuzz`. docs/fuzzing.md says what is sent, what must hold, and how to repeat it."""
