/* SPDX-License-Identifier: ISC */
/** @file cambium.h  Everything public. */
#ifndef CAMBIUM_CAMBIUM_H
#define CAMBIUM_CAMBIUM_H

#include <cambium/device.h>
#include <cambium/diff.h>
#include <cambium/error.h>
#include <cambium/fsck.h>
#include <cambium/git.h>
#include <cambium/history.h>
#include <cambium/inspect.h>
#include <cambium/merge.h>
#include <cambium/path.h>
#include <cambium/salvage.h>
#include <cambium/scrub.h>
#include <cambium/store.h>
#include <cambium/sync.h>
#include <cambium/tag.h>
#include <cambium/types.h>
#include <cambium/watch.h>

#endif
