"""The data model: DRISL-CBOR, CIDs, JSON form, blobs."""
