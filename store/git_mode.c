/* SPDX-License-Identifier: ISC */
/* git_mode.c: the mode of a path in a state. */
#include "store/git.h"

int cmb_git_mode(cmb_snapshot *snapshot, cmb_bytes path, uint32_t *out_mode)
{
    uint8_t key[CMB_KEY_MAX + 1]; /* and a zero byte: the first key after the path */
    cmb_bytes value;
    uint32_t mode = CMB_GIT_FILE;
    if (!path.size || path.size > CMB_GIT_PATH_MAX)
        return CMB_ENOTFOUND;
    memcpy(key, CMB_GIT_MODE_KEY, CMB_GIT_MODE_KEY_SIZE);
    memcpy(key + CMB_GIT_MODE_KEY_SIZE, path.data, path.size);
    int error = cmb_get(snapshot, (cmb_bytes){key, CMB_GIT_MODE_KEY_SIZE + path.size}, &value);
    if (!error) {
        mode = cmb_git_mode_of(value);
        if (!mode)
            return cmb_fail(CMB_ECORRUPT, "a side entry of the tree says no mode");
    } else if (error == CMB_ENOTFOUND) {
        uint64_t n;
        memcpy(key + CMB_GIT_MODE_KEY_SIZE + path.size, "", 1);
        cmb_bytes from = {key + CMB_GIT_MODE_KEY_SIZE, path.size}, to = {from.data, path.size + 1};
        error = cmb_count(snapshot, &from, &to, &n); /* the value may be of any size: it is not read */
        if (!error && !n)
            error = CMB_ENOTFOUND;
    }
    if (!error)
        *out_mode = mode;
    return error;
}
