"""The campaign API: HTTP in, JSON out, under ``/api/v1``; fields are added and never taken away.

Bodies are read with msgspec into ``market.campaign`` types, and the OpenAPI document shows those
very types: nothing is declared twice. Every error is a problem document (RFC 9457).
"""
