/* Log line: any Lua value as part of a log line. Lenient where perigee.json is
 * strict: nothing is an error, what JSON has no form for becomes a string. */
#ifndef PERILUA_LOG_LINE_H
#define PERILUA_LOG_LINE_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "bindings/log_redact.h"
#include "core/base/buf.h"

#define PERILUA_LOG_LINE_MAX ((size_t)64 << 10)
#define PERILUA_LOG_STRING_MAX ((size_t)16 << 10)
#define PERILUA_LOG_DEPTH_MAX 8
#define PERILUA_LOG_ENTRIES_MAX 200 /* of one table */

/* What a line has got besides the keys that all have. */
#define PERILUA_LOG_HAS_REQUEST 1u /* reqId */
#define PERILUA_LOG_HAS_TRACE 2u   /* trace_id, span_id */

/* Appends ,"key":value for each field of the table at index. What does not fit
 * any more becomes "[too large]" or is left out. has: of the above; fields of
 * such names get a "_" behind them. Raises nothing but memory errors. */
void perilua_log_fields(lua_State *L, int index, const perilua_redact *redact,
                        unsigned has, peri_buf *out);

/* Appends ,"err":{type, message, stack, ...} for the value at index. */
void perilua_log_error(lua_State *L, int index, const perilua_redact *redact,
                       peri_buf *out);

/* Appends a JSON string, cut at the maximum. 0 or PERI_ELIMIT. */
int perilua_log_string(peri_buf *out, peri_slice text);

#endif
