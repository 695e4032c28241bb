"""A feature in a frame of another site, and pictures of pages for those who show a link."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.deps import ServedCollection, ServedSAE, get_latent, get_sae
from app.middleware import CONTENT_SECURITY_POLICY, NO_FRAMES
from app.pages import page
from app.settings import Settings
from app.views.sharing import EmbedView

router = APIRouter()

N_EMBEDDED = 5


def embed(request: Request) -> Response:
    """The feature for a frame, which the sites of the setting `embed_on` may have."""
    collection, sae = get_sae(request)
    view = embed_view(collection, sae, get_latent(request, sae))
    settings: Settings = request.app.state.settings
    return page(request, "embed", view, headers=framing(settings.embed_on))


def framing(sites: tuple[str, ...]) -> dict[str, str]:
    """The headers that let these sites show a page in a frame; without sites those of all pages stay."""
    if not sites:
        return {}
    policy = CONTENT_SECURITY_POLICY.replace(NO_FRAMES, f"frame-ancestors {' '.join(sites)}")
    return {"Content-Security-Policy": policy, "Cross-Origin-Resource-Policy": "cross-origin"}


def embed_view(collection: ServedCollection, sae: ServedSAE, latent: int) -> EmbedView:
    documents, activations = sae.set.codes.of_latent(latent)
    first, values = documents[:N_EMBEDDED].tolist(), activations[:N_EMBEDDED].tolist()
    return EmbedView(
        collection=collection.name,
        sae=sae.name,
        latent=latent,
        label=sae.labels[latent],
        is_dead=sae.fires[latent] == 0,
        density=sae.density(latent),
        n_documents=sae.fires[latent],
        max=sae.maxima[latent],
        histogram=sae.histogram(latent),
        documents=collection.cards(first, sae, latent=latent, activations=values),
        url=sae.urls[latent],
    )


router.add_route("/{collection}/{sae}/features/{latent}/embed", embed, methods=["GET", "HEAD"])
