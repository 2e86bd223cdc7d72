"""Bugs in the readers of bytes: values, blocks, signatures."""

from __future__ import annotations

from mutant import Mutant

_CAR = "tests/unit/protocol/repo/test_protocol_car.py"
_CBOR = "tests/unit/protocol/data/test_protocol_cbor.py"
_FLIPPED = "tests/properties/frames/test_flipped_blocks.py"
_FORMS = "tests/properties/frames/test_longer_forms.py"
_GATE_KEYS = "tests/integration/live/test_crawl_gate_keys.py"
_KEYS = "tests/unit/protocol/identity/test_protocol_keys.py"
_LIARS = "tests/integration/live/test_crawl_liars.py"
_SIGNATURES = "tests/properties/frames/test_changed_signatures.py"
_BROKEN = "tests/properties/trees/test_broken_trees.py"
_VERIFY = "tests/unit/crawler/live/test_crawler_verify.py"
_VERIFY_RECORDS = "tests/unit/crawler/live/test_crawler_verify_records.py"
_VERIFY_BLOCKS = "tests/unit/crawler/live/test_crawler_verify_blocks.py"

ENCODING = (
    Mutant(
        "not-encoded-again",
        "encoding",
        "protocol/data/cbor.py",
        """\
    if encoded != data:
        return _UNSETTLED
""",
        "",
        (
            f"{_CBOR}::test_decoders_refuse_other_encodings",
            f"{_FORMS}::test_record_in_another_form_is_refused",
            f"{_FORMS}::test_records_in_other_forms_are_dropped_from_a_valid_commit",
            f"{_VERIFY_RECORDS}::test_bad_record_drops_its_operation_only",
        ),
    ),
    Mutant(
        "floats-taken",
        "encoding",
        "protocol/data/cbor.py",
        """\
        elif kind is float:
            return False
""",
        "",
        (
            f"{_CBOR}::test_decoders_refuse_other_encodings",
            f"{_FORMS}::test_record_in_another_form_is_refused",
        ),
    ),
    Mutant(
        "integers-of-any-size",
        "encoding",
        "protocol/data/cbor.py",
        "if not MIN_INT <= item <= MAX_INT:",
        "if not MIN_INT * 2 <= item <= MAX_INT * 2 + 1:",
        (f"{_CBOR}::test_decoders_refuse_other_encodings",),
    ),
    Mutant(
        "numbers-longer-than-needed",
        "encoding",
        "protocol/data/cbor_strict.py",
        "if argument < smallest:",
        "if argument < 0:",
        (
            f"{_CBOR}::test_decoders_refuse_other_encodings",
            f"{_FORMS}::test_record_in_another_form_is_refused",
        ),
    ),
    Mutant(
        "keys-twice",
        "encoding",
        "protocol/data/cbor_strict.py",
        "(size, key) <= (len(previous), previous)",
        "(size, key) < (len(previous), previous)",
        (
            f"{_CBOR}::test_decoders_refuse_other_encodings",
            f"{_FORMS}::test_record_in_another_form_is_refused",
        ),
    ),
    Mutant(
        "loose-nodes",
        "encoding",
        "protocol/mst/node.py",
        "plain = encode_dag_cbor(node) == raw and len(node) == 2",
        "plain = len(node) == 2",
        (
            f"{_FORMS}::test_node_in_another_form_is_refused",
            f"{_BROKEN}::test_broken_tree_is_refused_by_every_reader[long_number]",
        ),
    ),
    Mutant(
        "commits-with-more-behind",
        "encoding",
        "protocol/repo/commit.py",
        "_PLAIN.fullmatch(raw)",
        "_PLAIN.match(raw)",
        (f"{_FORMS}::test_commit_in_another_form_is_refused",),
    ),
    Mutant(
        "commits-put-in-order",
        "encoding",
        "protocol/repo/commit.py",
        """\
    fields = cbor.decode(raw)
    if type(fields) is not dict:
""",
        """\
    import libipld

    fields = cbor.decode(libipld.encode_dag_cbor(libipld.decode_dag_cbor(raw)))
    if type(fields) is not dict:
""",
        (f"{_FORMS}::test_commit_in_another_form_is_refused",),
    ),
)

HASH = (
    Mutant(
        "whole-files-not-hashed",
        "hash",
        "protocol/repo/car.py",
        """\
            _check_unusual(cid, block)
        blocks[cid] = block
""",
        """\
            pass
        blocks[cid] = block
""",
        (
            f"{_FLIPPED}::test_flipped_blocks_are_all_refused",
            f"{_FLIPPED}::test_flipped_block_of_a_message_is_refused",
            f"{_FLIPPED}::test_flipped_bit_of_a_cid_is_refused",
            f"{_CAR}::test_car_with_a_flipped_bit_is_refused",
            f"{_VERIFY_BLOCKS}::test_block_that_is_not_what_its_cid_says_is_refused",
        ),
    ),
    Mutant(
        "pieces-not-hashed",
        "hash",
        "protocol/repo/car.py",
        """\
                    _check_unusual(cid, block)
                found.append((cid, block))
""",
        """\
                    pass
                found.append((cid, block))
""",
        (
            f"{_FLIPPED}::test_flipped_blocks_are_all_refused",
            f"{_FLIPPED}::test_flipped_block_of_a_repo_is_refused",
            f"{_CAR}::test_car_with_a_flipped_bit_is_refused",
            f"{_LIARS}::test_repo_not_signed_by_its_owner_is_refused[flipped]",
        ),
    ),
    Mutant(
        "blobs-not-hashed",
        "hash",
        "protocol/repo/car.py",
        "    if sha256(block).digest() != cid[4:]:",
        "    if cid[:4] == DATA_PREFIX and sha256(block).digest() != cid[4:]:",
        (f"{_FLIPPED}::test_flipped_blocks_are_all_refused",),
    ),
    Mutant(
        "half-of-the-hash",
        "hash",
        "protocol/repo/car.py",
        "    if sha256(block).digest() != cid[4:]:",
        "    if sha256(block).digest()[:16] != cid[4:20]:",
        (f"{_FLIPPED}::test_flipped_bit_of_a_cid_is_refused",),
    ),
)

SIGNATURE = (
    Mutant(
        "high-s-of-p256",
        "signature",
        "protocol/identity/keys.py",
        "limit = P256_ORDER - 1 if allow_high_s else _P256_HALF_ORDER",
        "limit = P256_ORDER - 1",
        (
            f"{_SIGNATURES}::test_changed_signature_is_refused[p256]",
            f"{_KEYS}::test_high_s_is_refused_unless_allowed[p256]",
            f"{_VERIFY}::test_wrong_key_and_high_s_are_a_signature_error",
        ),
    ),
    Mutant(
        "high-s-of-k256",
        "signature",
        "protocol/identity/keys.py",
        """\
        if allow_high_s:
            normalize(context, buffer, buffer)
""",
        """\
        normalize(context, buffer, buffer)
""",
        (
            f"{_SIGNATURES}::test_changed_signature_is_refused[k256]",
            f"{_KEYS}::test_high_s_is_refused_unless_allowed[k256]",
            "tests/unit/plc/test_plc_operation_format.py::"
            "test_signature_in_another_form_is_refused",
        ),
    ),
    Mutant(
        "more-bytes-behind",
        "signature",
        "protocol/identity/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        # Not shared: the C""",
        """\
        if len(signature) < SIGNATURE_BYTES:
            return False
        # Not shared: the C""",
        (
            f"{_SIGNATURES}::test_changed_signature_is_refused[k256]",
            f"{_KEYS}::test_other_lengths_and_der_are_refused[k256]",
        ),
    ),
    Mutant(
        "numbers-of-any-length",
        "signature",
        "protocol/identity/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        r = number(signature[:32], "big")
""",
        """\
        r = number(signature[:32], "big")
""",
        (f"{_SIGNATURES}::test_changed_signature_is_refused[p256]",),
    ),
    Mutant(
        "der-taken",
        "signature",
        "protocol/identity/keys.py",
        """\
        if len(signature) != SIGNATURE_BYTES:
            return False
        r = number(signature[:32], "big")
""",
        """\
        if len(signature) != SIGNATURE_BYTES:
            try:
                check(signature, message, _ES256)
            except InvalidSignature:
                return False
            return True
        r = number(signature[:32], "big")
""",
        (
            f"{_SIGNATURES}::test_changed_signature_is_refused[p256]",
            f"{_KEYS}::test_other_lengths_and_der_are_refused[p256]",
        ),
    ),
    Mutant(
        "commit-not-verified",
        "signature",
        "crawler/live/verify.py",
        "verify_commit_signature(claim.signed, key, claim.commit)",
        "assert claim.signed",
        (
            f"{_VERIFY}::test_wrong_key_and_high_s_are_a_signature_error",
            f"{_GATE_KEYS}::test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute",
        ),
    ),
)
