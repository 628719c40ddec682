/* SPDX-License-Identifier: ISC */
#include "tools/values.h"

#include "tools/text.h"

bool value_rev(const cli *c, int at, int branch, const char **out_rev)
{
    if (cli_has(c, at) && cli_has(c, branch)) {
        cli_usage(c, "--at and --branch: give one of them");
        return false;
    }
    *out_rev = cli_value(c, at, cli_value(c, branch, "main"));
    return true;
}

int value_not_found(const cli *c, cmb_bytes key, const char *where)
{
    char shown[200];
    return cli_say(CLI_NOT_FOUND, cli_image(c), "%s: no key \"%s\" in %s", cmb_strerror(CMB_ENOTFOUND),
                   text_field_of(shown, sizeof(shown), key.data, key.size), where);
}

int value_each_piece(cmb_value_stream *stream, FILE *out, value_piece_fn fn, void *ctx)
{
    static uint8_t piece[VALUE_PIECE];
    uint64_t offset = 0;
    while (cli_output_ok(out)) {
        size_t n;
        int rc = cmb_value_read(stream, offset, piece, sizeof(piece), &n);
        if (rc)
            return rc;
        if (n == 0)
            break;
        fn(ctx, piece, n);
        offset += n;
    }
    return 0;
}

static void write_raw(void *ctx, const void *data, size_t size)
{
    fwrite(data, 1, size, ctx);
}

int value_copy_raw(cmb_value_stream *stream, FILE *out)
{
    return value_each_piece(stream, out, write_raw, out);
}

int value_of_cursor(cmb_cursor *cursor, FILE *out, value_piece_fn fn, void *ctx)
{
    uint32_t size;
    int rc = cmb_cursor_value_size(cursor, &size);
    if (rc)
        return rc;
    if (size <= VALUE_PIECE) {
        cmb_bytes value;
        rc = cmb_cursor_value(cursor, &value);
        if (rc == 0)
            fn(ctx, value.data, value.size);
        return rc;
    }
    cmb_value_stream *stream;
    rc = cmb_cursor_value_open(cursor, &stream);
    if (rc)
        return rc;
    rc = value_each_piece(stream, out, fn, ctx);
    cmb_value_close(stream);
    return rc;
}
