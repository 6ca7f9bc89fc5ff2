# stripe_sync: Stripe, Postgres and Slack kept in agreement by the database
#
#	make, make install		build and install for the server of PG_CONFIG
#	make test				everything, on a throw-away server of its own
#	make test-majors		the same for PostgreSQL 17, 18 and 19, in chroots
#	make test-versions		what depends on the version, for 18 and 19
#	make test-sanitized		with AddressSanitizer, for 17
#	make test-clock			the regression tests at other hours, on other days, in other zones
#	make test-all			everything on everything, for before a release
#	make demo, demo-stop	a story of events on a throw-away server, told to a stub of Slack
#	make demo-slack			what that Slack shows
#	make installcheck		the tests on a server that is running
#	make bench, fuzz		measure; feed nonsense
#	make bench-record		what it costs to record which handlers ran
#	make reference			doc/reference.md, from the catalog
#	make format, format-check

.DEFAULT_GOAL = all

PG_CONFIG ?= pg_config

# The one source of the version is the control file.
EXTENSION = stripe_sync
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" stripe_sync.control)

MODULE_big = stripe_sync
# In the order of the flow: start-up, verify, store, apply (mirror), handle,
# then set-up and looking.
OBJS = \
	src/stripe_sync.o \
	src/guc.o \
	src/role.o \
	src/noted_path.o \
	src/own.o \
	src/scope_stack.o \
	src/deferred.o \
	src/scope_guard.o \
	src/scope_leftover.o \
	src/engine.o \
	src/statement.o \
	src/array_argument.o \
	src/setup_cache.o \
	src/advisory.o \
	src/grant.o \
	src/argument.o \
	src/backoff.o \
	src/level.o \
	src/subtransaction.o \
	src/worker_transaction.o \
	src/hmac.o \
	src/signature.o \
	src/secret.o \
	src/secret_kind.o \
	src/secret_row.o \
	src/refusal.o \
	src/text.o \
	src/lease_holder.o \
	src/verify.o \
	src/endpoint.o \
	src/endpoint_setup.o \
	src/endpoint_secret.o \
	src/endpoint_mode.o \
	src/account.o \
	src/move_account.o \
	src/json.o \
	src/event.o \
	src/event_name.o \
	src/inbox_table.o \
	src/event_store.o \
	src/receipt.o \
	src/receive.o \
	src/step_list.o \
	src/steps.o \
	src/step_outcome.o \
	src/event_error.o \
	src/handler_run.o \
	src/catalog.o \
	src/generated/catalog_data.o \
	src/object_types.o \
	src/object_key.o \
	src/object_page.o \
	src/column_value.o \
	src/mirror_schema.o \
	src/mirror_columns.o \
	src/table_ddl.o \
	src/create_tables.o \
	src/fill_columns.o \
	src/table_note.o \
	src/table_relation.o \
	src/table_policy.o \
	src/table_bind.o \
	src/table_cache.o \
	src/child_key.o \
	src/snapshot.o \
	src/describe.o \
	src/life_cycle.o \
	src/row.o \
	src/mirror_state.o \
	src/mirror_direct.o \
	src/mirror_sql.o \
	src/mirror_row.o \
	src/event_history.o \
	src/newest.o \
	src/fetched_note.o \
	src/left_out.o \
	src/precedence.o \
	src/fetched_gone.o \
	src/fetched_row.o \
	src/children_locks.o \
	src/children.o \
	src/late_children.o \
	src/refetch_request.o \
	src/apply_event.o \
	src/fetched.o \
	src/timed.o \
	src/handler.o \
	src/handler_call.o \
	src/handler_setup.o \
	src/handler_trial.o \
	src/held.o \
	src/replay.o \
	src/refused_delivery.o \
	src/matching_secret.o \
	src/refused_count.o \
	src/refused_write.o \
	src/refused_watch.o \
	src/webhook.o \
	src/previous.o \
	src/predecessor.o \
	src/fixture.o \
	src/generated/fixture_data.o \
	src/simulate.o \
	src/story.o \
	src/explain.o \
	src/verify_report.o \
	src/verify_keys.o \
	src/verify_lacking.o \
	src/verify_row.o \
	src/verify_mirror.o \
	src/destination.o \
	src/destination_argument.o \
	src/destination_pace.o \
	src/destination_setup.o \
	src/destination_link.o \
	src/destination_refused.o \
	src/secret_rotation.o \
	src/destination_test.o \
	src/alert_rule.o \
	src/alert.o \
	src/alert_setup.o \
	src/default_alerts.o \
	src/outbox_hooks.o \
	src/incident_key.o \
	src/alerted.o \
	src/burst.o \
	src/incident_row.o \
	src/incident.o \
	src/incident_close.o \
	src/incident_text.o \
	src/incident_message.o \
	src/incident_end.o \
	src/system_event.o \
	src/failed_events.o \
	src/recovered_events.o \
	src/template.o \
	src/template_blocks.o \
	src/template_preview.o \
	src/template_parse.o \
	src/template_path.o \
	src/template_filter.o \
	src/template_link.o \
	src/money.o \
	src/mrkdwn.o \
	src/block_json.o \
	src/block_kit.o \
	src/block_limits.o \
	src/outbox.o \
	src/claim.o \
	src/prepare.o \
	src/delivery.o \
	src/sender.o \
	src/url.o \
	src/transfer.o \
	src/http.o \
	src/http_answer.o \
	src/sockets.o \
	src/slack_judge.o \
	src/slack_answer.o \
	src/settle.o \
	src/release.o \
	src/dead_sender.o \
	src/due_events.o \
	src/api_key.o \
	src/stripe_api.o \
	src/page.o \
	src/caller.o \
	src/job.o \
	src/wait_job.o \
	src/part_kind.o \
	src/part.o \
	src/cursor.o \
	src/page_size.o \
	src/outcome.o \
	src/part_claim.o \
	src/part_advance.o \
	src/runner.o \
	src/reclaim.o \
	src/kinds.o \
	src/set_api_key.o \
	src/unread.o \
	src/backfill_order.o \
	src/reconcile.o \
	src/event_list.o \
	src/gap.o \
	src/refetch.o \
	src/event_types.o \
	src/webhook_endpoint.o \
	src/new_endpoint.o \
	src/watch.o \
	src/watch_judge.o \
	src/api_path.o \
	src/list.o \
	src/list_parents.o \
	src/account_age.o \
	src/vanished.o \
	src/backfill.o \
	src/backfill_types.o \
	src/backfill_parts.o \
	src/escalation.o \
	src/silence.o \
	src/prune.o \
	src/backup.o \
	src/pass.o \
	src/work.o \
	src/guard.o \
	src/journal.o \
	src/standstill.o \
	src/slots.o \
	src/launcher.o \
	src/worker.o \
	src/leave.o

# The install script's fragments, in the order of the flow.
INSTALL_SQL = \
	src/install/00_header.sql \
	src/install/10_endpoint.sql \
	src/install/12_refusal.sql \
	src/install/20_inbox.sql \
	src/install/30_mirror.sql \
	src/install/40_handler.sql \
	src/install/45_record.sql \
	src/install/50_destination.sql \
	src/install/60_outbox.sql \
	src/install/65_template.sql \
	src/install/70_alert.sql \
	src/install/75_stripe_back.sql \
	src/install/76_webhook_endpoint.sql \
	src/install/80_worker.sql \
	src/install/85_upkeep.sql \
	src/install/90_grants.sql

# Tests, in the order of the flow.
REGRESS = guc signature endpoint account inbox simulate webhook refusal catalog mirror shape order reading \
	lines verify handler role scope failure explain rights secrets ten_failures mirror_row template \
	blocks alert incident destination outbox prune record trouble untold silence webhook_endpoint \
	level own arguments
ISOLATION = account duplicate same_object same_second shared replay incident recovered
PROVE_TESTS = \
	test/tap/order.pl \
	test/tap/reading.pl \
	test/tap/fixtures.pl \
	test/tap/simulate.pl \
	test/tap/concurrency.pl \
	test/tap/advisory.pl \
	test/tap/cancel.pl \
	test/tap/dump.pl \
	test/tap/worker.pl \
	test/tap/retry.pl \
	test/tap/scope.pl \
	test/tap/guard.pl \
	test/tap/secret.pl \
	test/tap/refusal.pl \
	test/tap/upgrade.pl \
	test/tap/level.pl \
	test/tap/answers.pl \
	test/tap/alert.pl \
	test/tap/delivery.pl \
	test/tap/sender.pl \
	test/tap/interference.pl \
	test/tap/attack_scope.pl \
	test/tap/attack_objects.pl \
	test/tap/attack_shape.pl \
	test/tap/role_matrix.pl \
	test/tap/legitimate.pl \
	test/tap/thread.pl \
	test/tap/crash.pl \
	test/tap/backfill.pl \
	test/tap/backfill_faults.pl \
	test/tap/backfill_again.pl \
	test/tap/backfill_trust.pl \
	test/tap/reconcile.pl \
	test/tap/webhook_endpoint.pl \
	test/tap/endpoint_watch.pl \
	test/tap/reconcile_faults.pl \
	test/tap/refetch.pl \
	test/tap/job.pl \
	test/tap/storm.pl \
	test/tap/clock.pl \
	test/tap/fuzz_sql.pl

# Started first: what takes longest.
SLOW = $(addprefix tap:test/tap/, $(addsuffix .pl, order reading simulate answers backfill \
	backfill_again cancel worker endpoint_watch storm)) \
	$(patsubst %,extra:test/extra/%.sh, node_front fronts stripe_stub demo)

# What sanitizers look over: all but what repeats the same for long.
SANITIZED = regress isolation $(addprefix tap:test/tap/, $(addsuffix .pl, worker refusal retry scope \
	guard level answers alert delivery sender interference thread crash reconcile \
	reconcile_faults refetch job backfill_faults backfill_again backfill_trust \
	webhook_endpoint endpoint_watch storm attack_scope attack_shape))

# What may differ between versions of the server and of what comes with it: rows
# written by the executor's parts, processes, shared memory, locks, libcurl, whose
# rights code runs with, what is dumped and upgraded.
VERSIONED = regress isolation $(addprefix tap:test/tap/, $(addsuffix .pl, fixtures \
	concurrency cancel dump worker refusal scope guard level upgrade delivery sender crash backfill \
	attack_scope attack_objects attack_shape role_matrix legitimate))

INSTALL_SCRIPT_SQL = stripe_sync--$(EXTVERSION).sql
DATA_built = $(INSTALL_SCRIPT_SQL)
TAP_TESTS = 1
ISOLATION_OPTS = --inputdir=test/isolation
EXTRA_CLEAN = src/generated stripe_sync--*.sql .built-for tmp_check \
	tmp_check_iso output_iso results regression.diffs regression.out

# What the server's macros and callbacks need and -Wextra minds is let pass;
# its headers are system headers to us, whose warnings nobody can mend here.
# PostgreSQL 15 and 16 ask for declarations first, we don't.  Its own flags are
# of the compiler it was built with, so clang may not know them all.
PG_CFLAGS = -std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror \
	-Wno-declaration-after-statement -Wno-unused-parameter \
	-Wno-sign-compare -Wno-missing-field-initializers \
	$(if $(findstring clang,$(CC)),-Wno-ignored-optimization-argument \
		-Wno-ignored-attributes -Wno-cast-function-type-strict \
		-Wno-unknown-warning-option)
PG_CPPFLAGS = -Isrc -DSTRIPE_SYNC_VERSION='"$(EXTVERSION)"' -isystem $(shell $(PG_CONFIG) --includedir-server)

# Modules share one name space, so nothing is visible but what the server
# looks up.  (Its own macros mark that from 16 on only: the linker's list
# does for all.)
EXPORTS = Pg_magic_func _PG_init pg_finfo_stripe_sync_* stripe_sync_*
EXPORTS_MAP = src/generated/exports.map
SHLIB_LINK = -lcurl -lcrypto -Wl,--version-script=$(EXPORTS_MAP)

# Bitcode would let the server inline our functions into queries, which none
# of them gains from, and needs the very clang that the server was built with.
override with_llvm = no

# ---- what needs no server to build for ----

DRIVERS = test test-majors test-versions test-sanitized test-clock test-all demo demo-slack demo-stop bench bench-record fuzz reference format format-check
.PHONY: $(DRIVERS)

test:
	@test/run

test-majors:
	@test/majors $(MAJORS)

test-sanitized:
	@STRIPE_SYNC_SANITIZE=1 test/majors 17 $(SANITIZED)

test-versions:
	@test/majors $(or $(MAJORS),18 19) $(VERSIONED)

test-clock:
	@test/clock

test-all:
	@test/all

demo:
	@test/demo/run

demo-slack:
	@test/demo/slack

demo-stop:
	@test/demo/stop

bench:
	@test/bench/run

bench-record:
	@test/bench/run record

fuzz:
	@test/fuzz/run

reference:
	@test/reference

CLANG_FORMAT ?= $(firstword $(foreach name,clang-format-14 clang-format, \
	$(if $(shell command -v $(name)),$(name))) clang-format-14)
FORMATTED = $(wildcard src/*.c src/*.h)

format:
	$(CLANG_FORMAT) -i $(FORMATTED)

format-check:
	$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

# The drivers read the lists above.
print-%:
	@echo '$($*)'

# ---- what does ----

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(filter-out $(DRIVERS) print-%,$(or $(MAKECMDGOALS),all)),)
ifeq ($(wildcard $(PGXS)),)
$(error $(PG_CONFIG) knows no server to build for: install one (Debian: \
	postgresql-server-dev-15), or name its pg_config: make PG_CONFIG=/path/to/pg_config)
endif
include $(PGXS)

# The version-script is an input of the link that PGXS doesn't know.
$(shlib): $(EXPORTS_MAP)

$(EXPORTS_MAP): Makefile
	@mkdir -p $(@D)
	printf '{\n\tglobal:\n$(foreach name,$(EXPORTS),\t\t$(name);\n)\tlocal: *;\n};\n' >$@

# A failing generator must leave nothing behind that looks finished.
src/generated/catalog_data.c: src/catalog/generate.pl src/catalog/object_types.json
	@mkdir -p $(@D)
	perl $^ >$@.new
	mv $@.new $@

src/generated/fixture_data.c: src/fixtures/generate.pl src/fixtures/objects.json src/fixtures/stories.json
	@mkdir -p $(@D)
	perl $^ >$@.new
	mv $@.new $@

$(INSTALL_SCRIPT_SQL): $(INSTALL_SQL) stripe_sync.control Makefile
	cat $(INSTALL_SQL) >$@.new
	mv $@.new $@

# Objects of another major version, or of other flags, are of no use: this file
# says what they were built for, and is touched only when that changes.
BUILT_FOR = $(shell $(PG_CONFIG) --version) $(CC) $(PROFILE) $(COPT)

.built-for: FORCE
	@echo '$(BUILT_FOR)' | cmp -s - $@ || echo '$(BUILT_FOR)' >$@

.PHONY: FORCE
FORCE:

$(OBJS): $(wildcard src/*.h) Makefile .built-for
endif
