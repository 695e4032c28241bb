"""Evidence on any collection: whether retrieval is kept, what steering does, and what it costs.

Every number says what it rests on and has its interval; beside it stand chance, and methods that need no
SAE. What is judged by the SAE's own activations is called circular wherever it stands.
"""

from sae_core.evaluation.model import SCHEMA, Evaluation, Figure, Table, merged, stored_evaluations

__all__ = ["SCHEMA", "Evaluation", "Figure", "Table", "merged", "stored_evaluations"]
