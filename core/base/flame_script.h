/* Flame, inside: the style and the script of the SVG. */
#ifndef PERI_BASE_FLAME_SCRIPT_H
#define PERI_BASE_FLAME_SCRIPT_H

extern const char *const peri_flame_style;
extern const char *const peri_flame_script;

#endif
