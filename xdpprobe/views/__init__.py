# SPDX-License-Identifier: Apache-2.0
"""What the reporting commands show: rows in, rich tables out; and the live view of `top`."""
