"""Logging in by an identity provider (OpenID Connect), where the settings name one; else nobody is asked."""

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.settings import Settings

__all__ = ["is_allowed", "signed_in"]


def signed_in(settings: Settings) -> bool:
    """Whether the page may be drawn; else draws the way to log in, or why this account may not."""
    if not settings.oidc_metadata_url:
        return True
    if not st.user.get("is_logged_in"):
        st.title("Longleaf", anchor=False)
        st.markdown("This Longleaf can be reached from other machines, so it asks who you are.")
        st.button("Log in", type="primary", on_click=st.login)
        return False
    email = str(st.user.get("email") or "")
    # Not all providers say so; where one says that the address is not this person's, it opens nothing.
    if is_allowed(email, settings.oidc_allowed, verified=st.user.get("email_verified") is not False):
        return True
    st.title("Longleaf", anchor=False)
    st.error(f"{plain(email or 'This account')} may not use this Longleaf. Ask who runs it, or use another account.")
    st.button("Log out", on_click=st.logout)
    return False


def is_allowed(email: str, allowed: str, *, verified: bool = True) -> bool:
    """Whether an address is among those allowed: "anna@example.org, @example.com"; "" allows all.

    Args:
        email: The address.
        allowed: Addresses and @domains, separated by commas.
        verified: Whether it is known to be the person's own; else it only serves where all are allowed.
    """
    entries = [entry.strip().casefold() for entry in allowed.split(",") if entry.strip()]
    address = email.casefold()
    if not entries:
        return True
    return verified and any(address == e or (e.startswith("@") and address.endswith(e)) for e in entries)
