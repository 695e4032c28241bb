"""Options that several commands have, or that are long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path | None, typer.Option("--home", help="Folder of collections and caches.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0 picks one.")
]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="A column of another name, as title=Name; repeatable.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many documents.")]
Latents = Annotated[str, typer.Option("--latents", help="Latents (features) of the SAE; several: 512,1024.")]
Ks = Annotated[str, typer.Option("--k", help="Active latents per document; several: 16,32.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")]
Embeddings = Annotated[
    Path | None,
    typer.Option("--embeddings", help="A .npy, .safetensors or .parquet file with a row for each of FILE."),
]
EmbeddingsFile = Annotated[
    Path,
    typer.Argument(help="A .npy, .safetensors or .parquet file of embeddings, a row for each document."),
]
EmbeddingsColumn = Annotated[
    str,
    typer.Option(
        "--embeddings-column",
        help="Which column (parquet) or tensor (safetensors); default: the one that fits.",
    ),
]
Truncate = Annotated[
    int | None,
    typer.Option("--truncate", min=1, help="Keep the first so many numbers of a vector (Matryoshka)."),
]
Normalise = Annotated[
    bool, typer.Option("--normalise", help="Scale rows of the file that are not of unit length.")
]
EmbedBaseURL = Annotated[
    str | None,
    typer.Option(
        "--embed-base-url",
        help="Endpoint of an embedder openai:MODEL, as http://localhost:11434/v1. "
        "Default: SAEFARI_EMBED_BASE_URL.",
    ),
]
EmbedConcurrency = Annotated[
    int, typer.Option("--embed-concurrency", min=1, max=256, help="Calls to that endpoint at a time.")
]
EmbedTimeout = Annotated[
    float, typer.Option("--embed-timeout", min=0.1, max=3600, help="Seconds that one call may take.")
]
Price = Annotated[
    float | None, typer.Option("--price", min=0, help="Price of a million tokens that it embeds.")
]
EmbedderSpec = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="minilm (the bundled one), a sentence-transformers model by path or name, openai:MODEL (behind "
        "an endpoint), or none. "
        "Default: minilm, or none where --embeddings is given.",
    ),
]
Backend = Annotated[str, typer.Option("--backend", help="Backend of the encoder: auto, torch, ...")]
Stability = Annotated[
    bool, typer.Option(help="Train with a second seed too, and say which features come again.")
]
Grid = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--grid",
        metavar="k=8,16 n=512,1024",
        help="Several SAEs in step over the same rows, one folder each: every k with every n. Without a "
        "second seed.",
    ),
]
Processes = Annotated[
    int, typer.Option("--processes", min=1, help="Processes on this machine that train together.")
]
MaxSilence = Annotated[
    int, typer.Option("--max-silence", min=1, max=3600, help="Seconds until a silent process counts as lost.")
]
CheckpointSeconds = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="Seconds between two checkpoints.")
]
LLMBaseURL = Annotated[
    str, typer.Option("--llm-base-url", help="OpenAI-compatible endpoint, as http://localhost:11434/v1.")
]
LLMModel = Annotated[str, typer.Option("--llm-model", help="The name of a model there.")]
Since = Annotated[str, typer.Option("--from", help="Only records changed on or after this day, 2024-01-31.")]
Until = Annotated[str, typer.Option("--until", help="Only records changed on or before this day.")]
Max = Annotated[int | None, typer.Option("--max", min=1, help="Stop at so many documents.")]
OutFile = Annotated[
    Path | None, typer.Option("--out", help="The parquet to write; default: in the folder corpora of HOME.")
]
Pause = Annotated[
    float, typer.Option("--pause", min=0, max=3600, help="Seconds from one request to the next.")
]
PageTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that one page may take.")
]
AgainFlag = Annotated[bool, typer.Option("--again", help="Drop what is there and ask for everything anew.")]
FirstPage = Annotated[
    bool, typer.Option("--dry-run", help="Only ask for the first page, and say what the rest would take.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
NameOfCollection = Annotated[str, typer.Argument(help="Name of a collection.")]
WhichSAE = Annotated[str, typer.Option("--sae", help="Which of its SAEs; default: the first.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the result as markdown and JSON too.")]
