/*
 * form.c
 *		application/x-www-form-urlencoded bodies: pure C, for the fuzzer.
 */
#include "slack_in/form.h"
