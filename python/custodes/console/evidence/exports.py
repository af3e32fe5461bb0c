"""Download of a finding's evidence bundle, for a stated purpose. The audit entry is written before it is sent."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response

from custodes.console.auth.access import may_see_all_names, may_see_evidence
from custodes.console.auth.session import Caller, NameViewer, require_form_token
from custodes.console.people.pages import LEAST_PURPOSE
from custodes.console.rendering import page
from custodes.console.services import Provided, Services
from custodes.evidence.bundle import export
from custodes.findings import Finding

router = APIRouter(include_in_schema=False)

NOT_ALL_OF_IT = "the evidence contains events of resources outside your access"


@router.post("/findings/{finding_id}/evidence", dependencies=[Depends(require_form_token)])
def evidence(
    request: Request,
    visitor: NameViewer,
    services: Provided,
    finding_id: str,
    purpose: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    found = services.monitor.store.get(finding_id)
    if services.evidence_store is None or found is None:
        return page(request, "missing.html", 404, what="evidence")
    if len(purpose.strip()) < LEAST_PURPOSE:
        back = f"/findings/{finding_id}"
        return page(request, "refused.html", 400, why="a purpose is required", back=back)
    bundle = evidence_bundle(services, request, visitor, found, purpose.strip())
    if bundle is None:
        return page(request, "refused.html", 403, why=NOT_ALL_OF_IT, back=f"/findings/{finding_id}")
    file_name = f'attachment; filename="evidence-{finding_id[:8]}.zip"'
    return Response(bundle, media_type="application/zip", headers={"Content-Disposition": file_name})


def evidence_bundle(
    services: Services, request: Request, visitor: Caller, finding: Finding, purpose: str
) -> bytes | None:
    """Writes an audit entry and returns the evidence bundle; ``None`` if the visitor may not see all of it.

    Raises 404 if there is no evidence.
    """
    if services.evidence_store is None:
        raise HTTPException(404, "no evidence is kept")
    # The check of single events is slow, so it is skipped for visitors with access to everything.
    if not may_see_all_names(visitor) and not may_see_evidence(
        visitor, finding, services.contribution_of(finding), services.evidence_store.about(finding.id)
    ):
        return None
    services.record_access(request, visitor, "export", "evidence", finding.group.get("actor", finding.id), purpose)
    bundle = io.BytesIO()
    try:
        export(services.evidence_store.log, finding.id, bundle)
    except ValueError as error:
        raise HTTPException(404, str(error)) from error
    return bundle.getvalue()
