# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker: `protocol` talks to the page, the others are the models.

Each model's module has open_model(weights), which returns what a request is given to:
model(request, report) -> {name: value} of the answer. report({...}) is a line on the way.
"""
