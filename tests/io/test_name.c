/* SPDX-License-Identifier: ISC */
/* Devices by name: what is understood, what is refused and with which words. */
#include "io_test.h"

#include <unistd.h>

static void open_error(const char *name, int error, const char *words)
{
    cmb_device *dev = NULL;
    assert_error(cmb_device_open(name, CMB_OPEN_WRITE, NULL, &dev), error);
    assert_detail_has(words);
    assert_null(dev);
}

static void a_memory_device_has_the_size_in_its_name(void **state)
{
    const struct {
        const char *name;
        uint64_t size;
    } rows[] = {{"mem:4096", 4096}, {"mem:8K", 8192}, {"mem:64M", 64 << 20}, {"mem:2G", (uint64_t)2 << 30}, {"mem:", 0}};
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        cmb_device *dev;
        cmb_caps caps;
        assert_ok(cmb_device_open(rows[i].name, CMB_OPEN_CREATE, NULL, &dev));
        cmb_device_caps(dev, &caps);
        assert_true(caps.size == rows[i].size);
        assert_int_equal(!!(caps.flags & CMB_CAP_GROW), rows[i].size == 0);
        cmb_device_close(dev);
    }
}

static void sizes_that_are_none_are_refused(void **state)
{
    open_error("mem:x", CMB_EINVAL, "is not a size");
    open_error("mem:12Q", CMB_EINVAL, "is not a size");
    open_error("mem:1Mb", CMB_EINVAL, "is not a size");
    open_error("mem:M", CMB_EINVAL, "is not a size");
    open_error("mem:0", CMB_EINVAL, "is not a size");
    open_error("mem:-1", CMB_EINVAL, "is not a size");
    open_error("mem:1000", CMB_EINVAL, "not a multiple");
    open_error("mem:99999999999999999999999", CMB_ETOOBIG, "too large");
    open_error("mem:99999999999999G", CMB_ETOOBIG, "too large");
    open_error("mem:100000G", CMB_ETOOBIG, "the most is");
}

static void options_that_are_unknown_or_do_not_fit_are_refused(void **state)
{
    open_error("x?colour=red", CMB_EINVAL, "\"colour=red\"");
    open_error("x?", CMB_EINVAL, "unknown device option \"\"");
    open_error("x?io=posix&&fixed=1", CMB_EINVAL, "unknown device option \"\"");
    open_error("x?io=aio", CMB_EINVAL, "\"io=aio\"");
    open_error("x?fixed=2", CMB_EINVAL, "\"fixed=2\"");
    open_error("x?trace=", CMB_EINVAL, "\"trace=\"");
    open_error("x?trace=a&trace=b", CMB_EINVAL, "\"trace=b\"");
    open_error("mem:?io=posix", CMB_EINVAL, "takes no io=");
    open_error("mem:?fixed=1", CMB_EINVAL, "takes no io=");
    open_error("", CMB_EINVAL, "without a path");
    open_error("?io=posix", CMB_EINVAL, "without a path");
}

static void xen_devices_need_a_build_with_xen(void **state)
{
#ifdef CMB_HAVE_XEN
    print_message("this build has Xen\n");
    skip();
#else
    open_error("xen:51712", CMB_ENOTSUP, "built without Xen support");
    open_error("xen:xvda", CMB_ENOTSUP, "built without Xen support");
#endif
}

static void io_uring_needs_a_build_with_it(void **state)
{
#ifdef CMB_HAVE_URING
    print_message("this build has io_uring\n");
    skip();
#else
    open_error("x?io=uring", CMB_ENOTSUP, "built without io_uring");
#endif
}

static void an_empty_memory_device_cannot_be_read(void **state)
{
    cmb_device *dev;
    assert_error(cmb_device_open("mem:", CMB_OPEN_READ, NULL, &dev), CMB_ENOTFOUND);
    assert_detail_has("begins empty");
}

static void missing_arguments_are_refused(void **state)
{
    cmb_device *dev;
    assert_error(cmb_device_open(NULL, CMB_OPEN_READ, NULL, &dev), CMB_EINVAL);
    assert_error(cmb_device_open("x", CMB_OPEN_READ, NULL, NULL), CMB_EINVAL);
    assert_error(cmb_device_open("x", (cmb_open_mode)17, NULL, &dev), CMB_EINVAL);
    cmb_device_close(NULL);
}

static void special_characters_of_a_path_are_written_with_per_cent_signs(void **state)
{
    const struct {
        const char *written, *meant;
    } rows[] = {{"what%3F", "what?"}, {"what%3fnow", "what?now"}, {"a%26b%25c", "a&b%c"}, {"100%", "100%"},
                {"%41%", "%41%"}, {"%3", "%3"}};
    for (size_t i = 0; i < CMB_COUNTOF(rows); i++) {
        cmb_device *dev;
        assert_ok(cmb_device_open(io_test_path(rows[i].written), CMB_OPEN_CREATE, NULL, &dev));
        assert_string_equal(dev->name, io_test_path(rows[i].meant));
        cmb_device_close(dev);
        assert_int_equal(access(io_test_path(rows[i].meant), F_OK), 0);
        assert_int_equal(unlink(io_test_path(rows[i].meant)), 0);
    }
    io_test_clean();
}

static void fixed_keeps_a_file_at_its_present_size(void **state)
{
    char name[600];
    cmb_device *dev;
    cmb_caps caps;
    io_test_make_file(io_test_path("fixed"), 8192, 1);
    snprintf(name, sizeof name, "%s?fixed=1&io=posix", io_test_path("fixed"));
    assert_ok(cmb_device_open(name, CMB_OPEN_WRITE, NULL, &dev));
    cmb_device_caps(dev, &caps);
    assert_int_equal(caps.max_size, 8192);
    assert_null(dev->ops->grow);
    cmb_device_close(dev);
    snprintf(name, sizeof name, "%s?fixed=0", io_test_path("fixed"));
    assert_ok(cmb_device_open(name, CMB_OPEN_WRITE, NULL, &dev));
    assert_non_null(dev->ops->grow);
    cmb_device_close(dev);
    io_test_clean();
}

static void trace_writes_one_line_per_operation(void **state)
{
    char name[1200], line[128], block[4096] = {0};
    cmb_device *dev;
    cmb_queue *q;
    snprintf(name, sizeof name, "mem:64K?trace=%s", io_test_path("what%3Ftrace"));
    assert_ok(cmb_device_open(name, CMB_OPEN_CREATE, NULL, &dev));
    assert_ok(cmb_queue_open(dev, 4, &q));
    assert_ok(cmb_io_write(q, 8192, block, 4096));
    assert_ok(cmb_io_read(q, 0, block, 512, 0));
    assert_ok(cmb_io_flush(q));
    assert_ok(cmb_io_discard(q, 0, 65536));
    cmb_queue_close(q);
    cmb_device_close(dev);
    FILE *f = fopen(io_test_path("what?trace"), "r");
    assert_non_null(f);
    const char *const expected[] = {"0 write 8192 4096 CMB_OK\n", "1 read 0 512 CMB_OK\n", "2 flush 0 0 CMB_OK\n",
                                    "3 discard 0 65536 CMB_OK\n"};
    for (size_t i = 0; i < CMB_COUNTOF(expected); i++)
        assert_string_equal(fgets(line, sizeof line, f), expected[i]);
    assert_null(fgets(line, sizeof line, f));
    fclose(f);
    io_test_clean();
}

static void a_trace_that_cannot_be_written_is_an_error(void **state)
{
    open_error("mem:?trace=/nonexistent/trace", CMB_EIO, "/nonexistent/trace");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_memory_device_has_the_size_in_its_name),
        cmocka_unit_test(sizes_that_are_none_are_refused),
        cmocka_unit_test(options_that_are_unknown_or_do_not_fit_are_refused),
        cmocka_unit_test(xen_devices_need_a_build_with_xen),
        cmocka_unit_test(io_uring_needs_a_build_with_it),
        cmocka_unit_test(an_empty_memory_device_cannot_be_read),
        cmocka_unit_test(missing_arguments_are_refused),
        cmocka_unit_test(special_characters_of_a_path_are_written_with_per_cent_signs),
        cmocka_unit_test(fixed_keeps_a_file_at_its_present_size),
        cmocka_unit_test(trace_writes_one_line_per_operation),
        cmocka_unit_test(a_trace_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
