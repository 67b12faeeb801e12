# SPDX-License-Identifier: Apache-2.0
"""What a packet costs, measured on the user's own machine: see `bench.run`."""
