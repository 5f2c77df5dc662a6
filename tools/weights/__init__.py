# SPDX-License-Identifier: Apache-2.0
"""Published weights -> ours: one module per model, a table of names and a change of axes."""
