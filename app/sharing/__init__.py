"""A feature in a frame of another site, and pictures of pages for those who show a link."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.deps import PageNotFound, ServedCollection, ServedSAE, get_latent, get_library, get_sae, link
from app.middleware import CONTENT_SECURITY_POLICY, NO_FRAMES
from app.pages import page
from app.query import Parameters, SearchQuery
from app.search import plan
from app.settings import Settings
from app.sharing import digests
from app.sharing.pictures import Pictures, TooManyPictures
from app.views.sharing import Digest, EmbedView

__all__ = ["Pictures", "TooManyPictures", "router"]

router = APIRouter()

N_EMBEDDED = 5
MAX_DIGITS = 12
# Other sites show them, and ask again some hours after a collection has changed.
PICTURE_HEADERS = {"Cache-Control": "public, max-age=21600", "Cross-Origin-Resource-Policy": "cross-origin"}


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


# --- pictures -------------------------------------------------------------------------------------


def feature_picture(request: Request) -> Response:
    collection, sae = get_sae(request)
    latent = get_latent(request, sae)
    return _picture(request, collection, lambda: digests.of_feature(collection, sae, latent))


def family_picture(request: Request) -> Response:
    """Of a family as built: others have no address that lasts."""
    collection, sae = get_sae(request)
    number = request.path_params["family"]
    found = sae.forest.families.get(int(number)) if number.isdecimal() and len(number) < MAX_DIGITS else None
    if found is None:
        raise PageNotFound(
            f"{sae.name} was built without such a family.",
            remedy="Choose one from the list.",
            suggestions=[link("All families", sae.summary.families_url)],
        )
    return _picture(request, collection, lambda: digests.of_family(collection, sae, found))


def search_picture(request: Request) -> Response:
    collection, sae = get_sae(request)
    query = SearchQuery.read(
        collection.name, sae.name, Parameters(request.scope["query_string"]), sae.n_latents
    )

    def digest() -> Digest:
        asked = plan(get_library(request), collection, sae, query, "results")
        if asked.problem is not None:
            raise asked.problem
        return digests.of_search(asked)

    return _picture(request, collection, digest, query.url())


def _picture(
    request: Request, collection: ServedCollection, digest: Callable[[], Digest], address: str = ""
) -> Response:
    pictures: Pictures = request.app.state.pictures
    written = get_library(request).written
    key = (collection.name, collection.explorer.generation, written, address or request.url.path)
    return Response(pictures.get(key, digest), headers=PICTURE_HEADERS, media_type="image/png")


for _path, _route in (
    ("features/{latent}/embed", embed),
    ("features/{latent}.png", feature_picture),
    ("families/{family}.png", family_picture),
    ("search.png", search_picture),
):
    router.add_route(f"/{{collection}}/{{sae}}/{_path}", _route, methods=["GET", "HEAD"])
