/* SPDX-License-Identifier: ISC */
/* make.c: rewrites the golden files in a directory: `make DIRECTORY`, after the format was changed on purpose. */
#include "golden.h"

#include <stdio.h>

#include "io/io.h"

static int list(cmb_device *dev, golden_text *out_text)
{
    cmb_store *store;
    GOLDEN_TRY(cmb_store_open_device(dev, &(cmb_store_options){.read_only = true}, &store));
    int error = golden_listing(store, out_text);
    int closed = cmb_store_close(store);
    return error ? error : closed;
}

static int write_files(const char *directory, const golden_kind *kind, cmb_device *dev)
{
    golden_image image = {0};
    golden_text bytes = {0}, listing = {0};
    int error = golden_script(dev, &kind->init, false);
    if (!error)
        error = golden_image_read(dev, &image);
    if (!error)
        error = list(dev, &listing);
    if (!error) {
        golden_image_format(&image, &bytes);
        error = golden_file_write(directory, kind->name, "image", &bytes);
    }
    if (!error)
        error = golden_file_write(directory, kind->name, "listing", &listing);
    if (!error)
        printf("%s: %zu and %zu bytes of text\n", kind->name, bytes.size, listing.size);
    golden_image_free(&image);
    golden_text_free(&bytes);
    golden_text_free(&listing);
    return error;
}

static int make(const char *directory, const golden_kind *kind)
{
    cmb_device *dev;
    GOLDEN_TRY(cmb_device_mem(kind->size, NULL, &dev));
    int error = write_files(directory, kind, dev);
    cmb_device_close(dev);
    return error;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make DIRECTORY\n");
        return 2;
    }
    for (unsigned i = 0; i < GOLDEN_KINDS; i++)
        if (make(argv[1], &golden_kinds[i])) {
            fprintf(stderr, "%s: %s\n", golden_kinds[i].name, cmb_error_detail());
            return 1;
        }
    return 0;
}
