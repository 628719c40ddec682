/* SPDX-License-Identifier: ISC */
/*
 * git.h (private): what the reader and the writer of git's streams share. The mapping is told in include/cambium/git.h.
 *
 *   git_read.c    bytes of a stream: lines, data, where one is in it
 *   git_text.c    quoted paths, names of refs, lines that say who and when
 *   git_objects.c marks, and contents of files that wait for a commit that uses them
 *   git_tree.c    the tree that a commit's changes are made in
 *   git_commit.c  one commit of a stream
 *   git_import.c  a whole stream, refs
 *   git_order.c   the commits of an image, parents first
 *   git_diff.c    what a commit changes, as git says it
 *   git_export.c  a whole stream
 *
 * A stream is untrusted: every number in it is bounded before anything is made of it, memory grows with bytes that were
 * read, hashes of tables are seeded with randomness.
 */
#ifndef CMB_STORE_GIT_H
#define CMB_STORE_GIT_H

#include <cambium/git.h>

#include "btree/buffer.h"
#include "store/handles.h"
#include "store/intake.h"

/* ---- bytes of a stream (git_read.c) ---- */

#define CMB_GIT_BUFFER ((size_t)1 << 20)        /* bytes that are read at once, and of the longest line */
#define CMB_GIT_WHOLE_MAX ((size_t)4 << 20)     /* bytes of counted data that are looked at in one piece */
#define CMB_GIT_DELIMITED_MAX ((size_t)64 << 20) /* bytes of delimited data, which is gathered in memory */

typedef struct cmb_git_input {
    const cmb_allocator *alloc;
    cmb_git_read_fn read;
    void *ctx;
    uint8_t *buffer;
    size_t capacity, at, end;
    uint64_t base;          /* offset in the stream of the buffer's first byte */
    uint64_t next_line;     /* number of the line that begins at `at` */
    int failed;             /* what a callback said: no end of the stream, whatever it is */
    bool ended;
    bool held;              /* the line was given back */
    bool after_data;        /* one empty line may follow, which means nothing */
    uint64_t line, line_at; /* of the line that was read last: number from 1, offset in the stream */
    const uint8_t *text;    /* that line, without its end; valid until the next call that reads */
    size_t size;            /* bytes of it */
    cmb_blob gathered;      /* delimited data */
} cmb_git_input;

int cmb_git_input_open(cmb_git_input *in, const cmb_allocator *alloc, cmb_git_read_fn read, void *ctx);
void cmb_git_input_close(cmb_git_input *in);
/* The next line that is no comment; CMB_ENOTFOUND without a detail at the end of the stream. */
int cmb_git_line(cmb_git_input *in);
/* The last line is to be read again by the next call. */
static inline void cmb_git_unread(cmb_git_input *in) { in->held = true; }
/* Does the line begin so? *out_rest (may be NULL): what follows. */
bool cmb_git_line_is(const cmb_git_input *in, const char *begin, cmb_bytes *out_rest);
/* "line N (byte B): …" */
int cmb_git_refuse(const cmb_git_input *in, int error, const char *format, ...) CMB_PRINTF(3, 4);
/* Puts that in front of the detail text there is. */
int cmb_git_located(const cmb_git_input *in, int error);
/* A piece of the stream for such a text: at most 40 bytes of it, others than printable ASCII as '?'. */
const char *cmb_git_shown(cmb_bytes text, char out[44]);

/* What a "data" line announces. */
typedef struct cmb_git_data {
    cmb_git_input *in;
    uint64_t size, left;   /* bytes: all, and those to come */
    const uint8_t *memory; /* delimited: here it is; counted: NULL */
} cmb_git_data;
/* The next line is a "data" line. */
int cmb_git_data_begin(cmb_git_input *in, cmb_git_data *out_data);
/* Some of it, size 0 at the end; valid until the next call that reads. */
int cmb_git_data_next(cmb_git_data *data, cmb_bytes *out_piece);
/* All of it, at most CMB_GIT_WHOLE_MAX bytes if it is counted; valid until the next call that reads. */
int cmb_git_data_whole(cmb_git_data *data, cmb_bytes *out_whole);
int cmb_git_data_skip(cmb_git_data *data);

/* ---- words of a stream (git_text.c) ---- */

/* Takes a path from the front of *rest: quoted as in C, or as it is up to the end (last), or else the next space. It is put into `room`, which
 * grows. CMB_ESYNTAX, CMB_ETOOBIG with a text that does not say where. Empty is the root: only if may_be_root. */
int cmb_git_path_take(const cmb_allocator *alloc, cmb_bytes *rest, bool last, bool may_be_root, cmb_blob *room, cmb_bytes *out_path);
/* Can git hold this path? NULL, or why not. */
const char *cmb_git_path_fault(cmb_bytes path);
/* Must it be quoted in a stream? */
bool cmb_git_path_is_plain(cmb_bytes path);

/* "refs/heads/x" and so on to the full name of a ref here. CMB_EINVAL says what is wrong. */
int cmb_git_ref_here(cmb_bytes git_name, char out_full[CMB_REF_FULL_SIZE]);
/* And back; out has room for CMB_REF_FULL_SIZE + 5 bytes. */
#define CMB_GIT_REF_SIZE (CMB_REF_FULL_SIZE + 5u)
void cmb_git_ref_there(const char *full, char out_git_name[CMB_GIT_REF_SIZE]);

/* "NAME <ADDRESS> SECONDS ZONE", as far as it can be understood. */
typedef struct cmb_git_person {
    cmb_bytes who;     /* NAME <ADDRESS> */
    int64_t time;      /* microseconds since 1970-01-01 UTC, within what can be said; 0 if there is none */
    bool strict;       /* the date is one that git takes without being told to be permissive */
} cmb_git_person;
/* false: there is no <address> where one has to be. */
bool cmb_git_person_parse(cmb_bytes line, cmb_git_person *out_person);

/* ---- tables that grow (git_objects.c) ---- */

/* Makes room for one element more. */
int cmb_git_grow(const cmb_allocator *alloc, void **array, size_t *capacity, size_t count, size_t element_size);

/* From hashes to numbers; what the numbers stand for is compared by the caller. */
typedef struct cmb_git_index {
    struct cmb_git_slot {
        uint64_t hash;
        uint64_t value; /* + 1; 0: free */
    } *slots;
    size_t capacity, count; /* capacity: 0 or a power of two */
} cmb_git_index;
int cmb_git_index_add(const cmb_allocator *alloc, cmb_git_index *index, uint64_t hash, uint64_t value);
/* The next value under this hash; *pos is 0 at first. */
bool cmb_git_index_next(const cmb_git_index *index, uint64_t hash, size_t *pos, uint64_t *out_value);
void cmb_git_index_release(const cmb_allocator *alloc, cmb_git_index *index);

/* ---- what a stream has named so far (git_objects.c) ---- */

/* Contents of a file. Small ones lie in their leaves later, and in memory until then; should they become too many, they are put
 * into the image's stream for a while, and the editor of a tree brings home what it needs of them. */
typedef struct cmb_git_blob {
    uint32_t size;  /* bytes */
    bool near;      /* in memory */
    uint64_t print; /* of one that was never near: a second hash of the content */
    union {
        const uint8_t *data;   /* near */
        const cmb_valref *ref; /* not near */
    };
} cmb_git_blob;

/* A commit of the stream, or one that it builds upon. */
typedef struct cmb_git_commit {
    cmb_commit_at at;
    cmb_noderef root;
    uint64_t generation;
    bool plain; /* no side entries in its tree, for sure */
} cmb_git_commit;

typedef enum cmb_git_kind { CMB_GIT_BLOB = 1, CMB_GIT_COMMIT = 2, CMB_GIT_TAG = 3 } cmb_git_kind;
typedef struct cmb_git_mark {
    uint64_t mark;
    uint32_t kind;  /* cmb_git_kind */
    uint32_t number;
} cmb_git_mark;

typedef struct cmb_git_objects {
    cmb_store *store;
    const cmb_allocator *alloc;
    cmb_intake *intake;
    uint64_t seeds[2];
    cmb_git_mark *marks;
    cmb_git_blob *blobs;
    cmb_git_commit *commits;
    size_t mark_count, mark_capacity, blob_count, blob_capacity, commit_count, commit_capacity;
    cmb_git_index by_mark, by_content;
    cmb_slab near, far;   /* contents of those that are near, references of the others */
    cmb_bytes passing;    /* a small content that is used at once */
} cmb_git_objects;
int cmb_git_objects_open(cmb_git_objects *o, cmb_store *store, cmb_intake *intake);
void cmb_git_objects_close(cmb_git_objects *o);

/* A later mark of a number replaces the earlier, as in git. */
int cmb_git_mark_set(cmb_git_objects *o, uint64_t mark, cmb_git_kind kind, size_t number);
const cmb_git_mark *cmb_git_mark_find(const cmb_git_objects *o, uint64_t mark);

#define CMB_GIT_PASSING SIZE_MAX
/* Reads data as a blob. Without `keep` it is used before the next call that reads, and may be CMB_GIT_PASSING. */
int cmb_git_blob_read(cmb_git_objects *o, cmb_git_data *data, bool keep, size_t *out_number);
/* Kind and value of an edit that puts it; valid until the next call that reads. */
void cmb_git_blob_edit(const cmb_git_objects *o, size_t number, cmb_edit *out_edit);
int cmb_git_commit_add(cmb_git_objects *o, const cmb_git_commit *commit, size_t *out_number);

/* ---- the tree that a commit's changes are made in (git_tree.c) ---- */

/* Changes take effect one after the other, as git's do: a file put where a directory was replaces it, and the other way round. */
typedef struct cmb_git_tree {
    cmb_store *store;
    cmb_intake *intake;
    cmb_view view;            /* the tree that it began with, and the changes so far */
    cmb_view_cursor *cursor;  /* over the view; NULL until it is needed */
    cmb_noderef replaced;     /* `emptied`: what it began with */
    bool emptied;             /* everything was removed on the way: the view's root is the empty tree */
    bool plain;               /* no side entries, for sure */
    cmb_pin pin;
    cmb_blob key, prefix, other, value;
    cmb_blob directory;
    size_t directory_size;    /* this is no file, nor is anything that it lies in; 0: not known of any */
} cmb_git_tree;
int cmb_git_tree_open(cmb_git_tree *t, cmb_store *store, cmb_intake *intake);
void cmb_git_tree_close(cmb_git_tree *t);
/* From now on changes are made in this one. plain: it has no side entries, for sure. */
int cmb_git_tree_begin(cmb_git_tree *t, const cmb_noderef *root, bool plain);
/* `value`: kind and value of an edit; its key is ignored. mode: one of CMB_GIT_FILE and so on. */
int cmb_git_tree_set(cmb_git_tree *t, cmb_bytes path, uint32_t mode, const cmb_edit *value);
/* A file, or a directory with all in it; empty: all. */
int cmb_git_tree_remove(cmb_git_tree *t, cmb_bytes path);
/* CMB_ENOTFOUND: there is no `from`. */
int cmb_git_tree_copy(cmb_git_tree *t, cmb_bytes from, cmb_bytes to, bool remove);
int cmb_git_tree_finish(cmb_git_tree *t, cmb_noderef *out_root);

/* ---- reading a stream (git_import.c, git_commit.c, git_tag.c) ---- */

#define CMB_GIT_NONE SIZE_MAX /* no number of a commit, a tag object or a ref */
#define CMB_GIT_TYPE "git.type" /* header of a commit that stands for something else: "blob" */

/* A ref that the stream has named. */
typedef struct cmb_git_ref {
    const char *name; /* full, as it is called here; zero-terminated */
    size_t commit;    /* number of the commit; CMB_GIT_NONE */
    size_t tag;       /* number of the tag object that it stands on; CMB_GIT_NONE */
    bool removed;     /* reset to the name of nothing */
} cmb_git_ref;

/* A tag object of the stream. */
typedef struct cmb_git_tag {
    cmb_commit_at at;
    size_t commit;  /* number of the commit at the end */
    unsigned depth; /* tag objects above that, this one included */
} cmb_git_tag;

/* Texts one after the other, in memory that is used again. */
typedef struct cmb_git_text {
    uint8_t *data;
    size_t size, capacity;
} cmb_git_text;
/* Appends it and a zero byte. */
int cmb_git_text_add(const cmb_allocator *alloc, cmb_git_text *text, cmb_bytes add, size_t *out_at);

typedef struct cmb_git_importer {
    cmb_store *store;
    const cmb_allocator *alloc;
    const cmb_git_options *options;
    cmb_intake *intake;
    cmb_git_input in;
    cmb_git_objects objects;
    cmb_git_tree tree;
    cmb_git_ref *refs;
    size_t ref_count, ref_capacity, last_ref;
    cmb_git_index by_name;
    cmb_slab names;
    cmb_git_tag *tags;
    size_t tag_count, tag_capacity;
    cmb_commit_at *parents;
    size_t parent_count, parent_capacity;
    cmb_commit_header *headers;
    size_t header_count, header_capacity;
    cmb_git_text text;
    cmb_blob path, other_path;
    uint64_t known_below; /* records below this address were there before */
    bool force, done_needed, done;
    cmb_git_result result;
} cmb_git_importer;

/* The ref of this name in git, made known if it is not yet. */
int cmb_git_ref_find(cmb_git_importer *im, cmb_bytes git_name, size_t *out_ref);
/* A commit by mark or by the name of a ref; CMB_GIT_NONE for the name of nothing. */
int cmb_git_commitish(cmb_git_importer *im, cmb_bytes word, size_t *out_commit);
/* ":N", N at least 1 */
bool cmb_git_mark_parse(cmb_bytes word, uint64_t *out_mark);
/* The next line, which has to be there: it becomes the current one. */
int cmb_git_more(cmb_git_importer *im, const char *what);
/* If the current line is "mark :N", or "original-oid NAME", it is taken and the next one becomes current. The name goes into im->text. */
int cmb_git_take_mark(cmb_git_importer *im, const char *what, uint64_t *out_mark);
int cmb_git_take_original(cmb_git_importer *im, const char *what, size_t *out_at, size_t *out_size);
/* A header whose value is `size` bytes at `at` in im->text, or as they are. */
int cmb_git_header_add(cmb_git_importer *im, const char *name, size_t at, size_t size);
/* Headers get pointers instead of offsets. */
void cmb_git_headers_settle(cmb_git_importer *im);
/* Reads the message that follows. */
int cmb_git_message(cmb_git_importer *im, size_t *out_at);

/* After "commit REF" and "tag NAME". */
int cmb_git_read_commit(cmb_git_importer *im, cmb_bytes ref);
int cmb_git_read_tag(cmb_git_importer *im, cmb_bytes name);

/* ---- the commits of an image, parents first (git_order.c) ---- */

typedef struct cmb_git_node {
    cmb_commit_at at;
    cmb_noderef root;
    size_t parents, parent_count; /* from here on in the order's list */
    size_t ref;                   /* number of the ref that it was found from */
    uint64_t mark;                /* 0: not written yet */
    bool seen;
} cmb_git_node;

typedef struct cmb_git_order {
    cmb_store *store;
    const cmb_allocator *alloc;
    cmb_git_node *nodes;
    size_t *parents;  /* numbers of nodes */
    size_t *sequence; /* numbers of nodes, parents first */
    struct cmb_git_frame {
        size_t node, next;
    } *stack;
    size_t node_count, node_capacity, parent_count, parent_capacity, sequence_count, sequence_capacity, depth, stack_capacity;
    cmb_git_index by_id;
    bool permissive;  /* some date is not one that git takes without being told so */
} cmb_git_order;
/* Zero-initialise but for store and alloc. Adds the commit and all that it reaches; first parents first, so that rows of commits
 * stay together. *out_node: its number. */
int cmb_git_order_add(cmb_git_order *order, const cmb_commit_at *at, size_t ref, size_t *out_node);
void cmb_git_order_release(cmb_git_order *order);
/* CMB_GIT_NONE: not added. */
size_t cmb_git_order_find(const cmb_git_order *order, const cmb_name *id);
/* The value of a header; data NULL: there is none. */
cmb_bytes cmb_git_header(const cmb_commit_header *headers, size_t n, const char *name);

/* ---- writing a stream (git_write.c, git_diff.c, git_export.c) ---- */

typedef struct cmb_git_output {
    const cmb_allocator *alloc;
    cmb_git_write_fn write;
    void *ctx;
    uint8_t *buffer;
    size_t used;
    uint64_t bytes; /* before the buffer */
} cmb_git_output;
int cmb_git_output_open(cmb_git_output *out, const cmb_allocator *alloc, cmb_git_write_fn write, void *ctx);
void cmb_git_output_close(cmb_git_output *out);
int cmb_git_put(cmb_git_output *out, const void *data, size_t size);
/* At most 400 bytes. */
int cmb_git_print(cmb_git_output *out, const char *format, ...) CMB_PRINTF(2, 3);
int cmb_git_output_flush(cmb_git_output *out);
/* "data N", the bytes, a newline. */
int cmb_git_put_data(cmb_git_output *out, cmb_bytes data);
int cmb_git_put_value(cmb_git_output *out, cmb_store *store, const cmb_found *found);
/* "WORD NAME <ADDRESS> SECONDS ZONE" of somebody of whom git never heard: what git would not take in a name is left out. */
int cmb_git_put_person(cmb_git_output *out, const char *word, const char *who, int64_t time);
/* The path, quoted where it has to be, and a newline. */
int cmb_git_text_path(const cmb_allocator *alloc, cmb_git_text *text, cmb_bytes path);

typedef struct cmb_git_exporter {
    cmb_store *store;
    const cmb_allocator *alloc;
    const cmb_git_options *options;
    cmb_git_output out;
    cmb_git_order order;
    struct cmb_git_export_ref {
        char *git_name;
        size_t size;      /* bytes of that memory */
        cmb_state state;
        size_t node;      /* CMB_GIT_NONE: it names no commit that is written */
        bool tag, begun;  /* begun: it stands in a "commit" line */
    } *refs;
    size_t ref_count, ref_capacity;
    struct cmb_git_written {
        cmb_name name;    /* of a content or a tag object */
        uint64_t mark, size;
    } *written;
    size_t written_count, written_capacity;
    cmb_git_index by_name;
    uint64_t seed, last_mark;
    cmb_git_text removed, modified; /* lines of the commit at hand */
    cmb_pin pin;
    cmb_blob key;
    cmb_git_result result;
} cmb_git_exporter;

/* Under this name and size something was written: its mark; 0: not yet. */
uint64_t cmb_git_written_mark(const cmb_git_exporter *ex, const cmb_name *name, uint64_t size);
int cmb_git_written_add(cmb_git_exporter *ex, const cmb_name *name, uint64_t size, uint64_t mark);
/* Writes a blob unless it was written before. */
int cmb_git_export_blob(cmb_git_exporter *ex, const cmb_found *found, uint64_t *out_mark);
/* Fills ex->removed and ex->modified with what the commit changes against its first parent, and writes blobs. from_git: git made its tree, so
 * that no path can lie in a file. */
int cmb_git_export_changes(cmb_git_exporter *ex, const cmb_git_node *node, bool from_git);
/* Tags that stand on tag objects. */
int cmb_git_export_tags(cmb_git_exporter *ex);

#endif
