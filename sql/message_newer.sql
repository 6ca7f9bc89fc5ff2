-- Newer kinds of blocks: tables, charts, Markdown, cards and containers, cut to Slack's sizes.
\set tables '{coupon}'
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.psql
\set ECHO none
\i :prelude
\set ECHO all
CREATE FUNCTION t.blocks(blocks jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT stripe_sync.preview_message('fallback', blocks) -> 'blocks' $$;
CREATE FUNCTION t.types(blocks jsonb) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(b ->> 'type', ' ' ORDER BY n) FROM jsonb_array_elements(blocks) WITH ORDINALITY x (b, n) $$;
CREATE FUNCTION t.cell(txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('type', 'raw_text', 'text', txt) $$;
CREATE FUNCTION t.row(cells int, txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(t.cell(txt)) FROM generate_series(1, cells) $$;
CREATE FUNCTION t.rows(n int, cells int, txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(t.row(cells, txt)) FROM generate_series(1, n) $$;
CREATE FUNCTION t.table(n int, cells int, txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('type', 'table', 'rows', t.rows(n, cells, txt)) $$;
CREATE FUNCTION t.data_table(n int, cells int, txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT t.table(n, cells, txt) || '{"type":"data_table","caption":"All of it"}' $$;
CREATE FUNCTION t.section(txt text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('type', 'section', 'text', jsonb_build_object('type', 'mrkdwn', 'text', txt)) $$;

-- what is within the sizes stays as it is
SELECT t.blocks(b) = b AS same FROM (SELECT '[{"type":"table","column_settings":[{"align":"right"},{"is_wrapped":true}],"rows":[[{"type":"raw_text","text":"Name"},{"type":"raw_text","text":"Owes"}],
		[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"link","url":"https://x.example/?a=1","text":"Ada & Co"}]}]},{"type":"raw_number","value":5,"text":"$5"}]]},
	{"type":"data_table","caption":"c","page_size":10,"rows":[[{"type":"raw_text","text":"h"}],[{"type":"raw_number","value":1.5,"text":"1.5"}]]},
	{"type":"data_visualization","title":"Plans","chart":{"type":"pie","segments":[{"label":"Pro","value":0.5},{"label":"Free","value":7}]}},
	{"type":"data_visualization","title":"Weeks","chart":{"type":"line","series":[{"name":"A","data":[{"label":"1","value":-1},{"label":"2","value":0}]},{"name":"B","data":[{"label":"2","value":3},{"label":"1","value":4}]}],"axis_config":{"categories":["1","2"],"x_label":"week"}}},
	{"type":"markdown","text":"# Hello\n**you**"},
	{"type":"card","title":{"type":"mrkdwn","text":"T"},"body":{"type":"mrkdwn","text":"B"},"actions":[{"type":"button","text":{"type":"plain_text","text":"Open"},"action_id":"a"}]},
	{"type":"carousel","elements":[{"type":"card","title":{"type":"mrkdwn","text":"T"}}]},
	{"type":"container","title":{"type":"plain_text","text":"T"},"child_blocks":[{"type":"divider"}]},
	{"type":"alert","text":{"type":"mrkdwn","text":"T"},"level":"warning"}]'::jsonb AS b) s;

-- a table: 100 rows, 20 cells in each, 10,000 characters in all; blank cells stay
SELECT n, cells, length(txt), jsonb_array_length(b #> '{0,rows}') AS rows, jsonb_array_length(b #> '{0,rows,0}') AS cells, b #>> '{1,elements,0,text}' AS note
  FROM (VALUES (100, 20, 'abc'), (101, 2, 'x'), (100, 25, 'abcd'), (100, 20, 'abcdefgh'), (60, 2, repeat('x', 100)), (3, 1, repeat('x', 2000))) v (n, cells, txt), t.blocks(jsonb_build_array(t.table(n, cells, txt))) b;
SELECT length(t.blocks(jsonb_build_array(t.table(2, 1, repeat('x', 1001)))) #>> '{0,rows,1,0,text}') AS cell;
SELECT t.blocks('[{"type":"table","rows":[[{"type":"raw_text","text":""},{"type":"raw_text","text":"  "},{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"link","url":""}]}]},{"type":"raw_text","text":"x"}]]}]') #> '{0,rows}';
-- with others before and after it: the message is never too long
SELECT t.types(b), jsonb_array_length(b #> '{1,rows}') AS rows, b #>> '{2,elements,0,text}' AS note, b #>> '{-1,elements,0,text}' AS last
  FROM t.blocks(jsonb_build_array(t.section(repeat('s', 3000)), t.table(90, 2, repeat('x', 50)), t.section(repeat('t', 3000)), t.section('z'))) b;
-- a data table: the header and 100 rows; two share the characters
SELECT n, jsonb_array_length(b #> '{0,rows}') AS rows, b #>> '{1,elements,0,text}' AS note FROM unnest(ARRAY[2, 101, 102]) n, t.blocks(jsonb_build_array(t.data_table(n, 3, 'x'))) b;
SELECT t.types(b), jsonb_array_length(b #> '{0,rows}') AS first, jsonb_array_length(b #> '{1,rows}') AS second FROM t.blocks(jsonb_build_array(t.data_table(60, 1, repeat('x', 100)), t.data_table(60, 1, repeat('x', 100)))) b;
SELECT length(b #>> '{0,caption}') FROM t.blocks(jsonb_build_array(t.data_table(2, 1, 'x') || jsonb_build_object('caption', repeat('c', 200)))) b;

-- charts, Markdown, cards and containers
SELECT length(b #>> '{0,title}') AS title, jsonb_array_length(b #> '{0,chart,segments}') AS segments, length(b #>> '{0,chart,segments,0,label}') AS label
  FROM t.blocks(jsonb_build_array(jsonb_build_object('type', 'data_visualization', 'title', repeat('t', 60), 'chart', jsonb_build_object('type', 'pie', 'segments',
	(SELECT jsonb_agg(jsonb_build_object('label', repeat('l', 30), 'value', g)) FROM generate_series(1, 9) g))))) b;
SELECT b #>> '{0,type}' AS type, jsonb_array_length(b #> '{0,chart,series}') AS series, jsonb_array_length(b #> '{0,chart,axis_config,categories}') AS categories, length(b #>> '{0,chart,axis_config,categories,0}') AS category,
	jsonb_array_length(b #> '{0,chart,series,0,data}') AS points, length(b #>> '{0,chart,series,0,data,0,label}') AS label, length(b #>> '{0,chart,series,0,name}') AS name, length(b #>> '{0,chart,axis_config,y_label}') AS axis
  FROM t.blocks(jsonb_build_array(jsonb_build_object('type', 'data_visualization', 'title', 't', 'chart', jsonb_build_object('type', 'bar',
	'series', (SELECT jsonb_agg(jsonb_build_object('name', g || repeat('n', 30), 'data', (SELECT jsonb_agg(jsonb_build_object('label', p || repeat('l', 30), 'value', p)) FROM generate_series(1, 30) p))) FROM generate_series(1, 9) g),
	'axis_config', jsonb_build_object('y_label', repeat('y', 60), 'categories', (SELECT jsonb_agg(p || repeat('l', 30)) FROM generate_series(1, 30) p)))))) b;
SELECT length(b #>> '{0,text}') AS first, length(b #>> '{1,text}') AS second, t.types(b) FROM t.blocks(jsonb_build_array(jsonb_build_object('type', 'markdown', 'text', repeat('m', 7000)), jsonb_build_object('type', 'markdown', 'text', repeat('m', 7000)))) b;
SELECT length(b #>> '{0,text}') AS one FROM t.blocks(jsonb_build_array(jsonb_build_object('type', 'markdown', 'text', repeat('m', 13000)))) b;
SELECT length(b #>> '{0,title,text}') AS title, length(b #>> '{0,subtitle,text}') AS subtitle, length(b #>> '{0,body,text}') AS body, length(b #>> '{0,subtext,text}') AS subtext, jsonb_array_length(b #> '{0,actions}') AS actions
  FROM t.blocks(jsonb_build_array((SELECT jsonb_object_agg(k, jsonb_build_object('type', 'mrkdwn', 'text', repeat('x', 300))) FROM unnest(ARRAY['title', 'subtitle', 'body', 'subtext']) k)
	|| jsonb_build_object('type', 'card', 'actions', (SELECT jsonb_agg(jsonb_build_object('type', 'button', 'action_id', g)) FROM generate_series(1, 5) g)))) b;
SELECT length(b #>> '{0,title,text}') AS title, jsonb_array_length(b #> '{0,child_blocks}') AS children, length(b #>> '{0,child_blocks,0,text,text}') AS section FROM t.blocks(jsonb_build_array(jsonb_build_object('type', 'container',
	'title', jsonb_build_object('type', 'plain_text', 'text', repeat('x', 200)), 'child_blocks', jsonb_build_array(t.section(repeat('x', 4000))) || (SELECT jsonb_agg('{"type":"divider"}'::jsonb) FROM generate_series(1, 20))))) b;
SELECT jsonb_array_length(t.blocks(jsonb_build_array(jsonb_build_object('type', 'carousel', 'elements', (SELECT jsonb_agg('{"type":"card","title":{"type":"mrkdwn","text":"T"}}'::jsonb) FROM generate_series(1, 20))))) #> '{0,elements}') AS cards;

-- what Slack would reject is shown as text from the beginning: a second table, a third chart, what lacks something
SELECT t.types(t.blocks(jsonb_build_array(t.table(2, 1, 'a'), t.table(2, 1, 'b'), '{"type":"container","title":{"type":"plain_text","text":"T"}}'::jsonb || jsonb_build_object('child_blocks', jsonb_build_array(t.table(1, 1, 'c'))))));
SELECT t.types(t.blocks((SELECT jsonb_agg('{"type":"data_visualization","title":"t","chart":{"type":"pie","segments":[{"label":"a","value":1}]}}'::jsonb) FROM generate_series(1, 3))));
SELECT t.types(r) AS type, r #>> '{0,text,text}' AS text FROM unnest(ARRAY[
	'{"type":"table","rows":[[{"type":"raw_text","text":"H & <b>"},{"type":"raw_text","text":"<!here>"}],[{"type":"raw_number","text":"7"},{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"see "},{"type":"link","url":"https://x.example/?a=1&b=2"},{"type":"emoji","name":"tada"}]}]}]]}',
	'{"type":"table","rows":[["x"],1]}', '{"type":"table","rows":[]}', '{"type":"table"}', '{"type":"table","rows":[[]]}',
	'{"type":"data_table","caption":"Two columns","rows":[[{"type":"raw_text","text":"a"},{"type":"raw_text","text":"b"}],[{"type":"raw_text","text":"c"}]]}',
	'{"type":"data_table","rows":[[{"type":"raw_text","text":"no"}],[{"type":"raw_text","text":"caption"}]]}', '{"type":"data_table","caption":"header alone","rows":[[{"type":"raw_text","text":"no"}]]}',
	'{"type":"data_table","caption":"pages","page_size":0,"rows":[[{"type":"raw_text","text":"a"}],[{"type":"raw_text","text":"b"}]]}',
	'{"type":"data_table","caption":"rich header","rows":[[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"h"}]}]}],[{"type":"raw_text","text":"b"}]]}',
	'{"type":"data_visualization","title":"Nothing","chart":{"type":"pie","segments":[{"label":"a","value":0},{"label":"b","value":2}]}}', '{"type":"data_visualization","title":"Unknown","chart":{"type":"map"}}', '{"type":"data_visualization","title":"None"}',
	'{"type":"data_visualization","title":"Same names","chart":{"type":"bar","series":[{"name":"A","data":[{"label":"1","value":1}]},{"name":"A","data":[{"label":"1","value":2}]}],"axis_config":{"categories":["1"]}}}',
	'{"type":"data_visualization","title":"A label too much","chart":{"type":"bar","series":[{"name":"A","data":[{"label":"1","value":1},{"label":"2","value":1e3}]}],"axis_config":{"categories":["1"]}}}',
	'{"type":"data_visualization","title":"No axis","chart":{"type":"area","series":[{"name":"A","data":[{"label":"1","value":1}]}]}}',
	'{"type":"card"}', '{"type":"card","subtitle":{"type":"plain_text","text":"only <this>"}}', '{"type":"carousel","elements":[{"type":"divider"}]}', '{"type":"container","child_blocks":[{"type":"divider"}]}',
	'{"type":"container","title":{"type":"plain_text","text":"T"},"subtitle":{"type":"mrkdwn","text":"*S*"},"child_blocks":[{"type":"made_up"},1,"x",[2]]}', '{"type":"markdown"}', '{"type":"markdown","text":1}', '{"type":"alert"}']::jsonb[]) b,
	t.blocks(jsonb_build_array('{"type":"divider"}'::jsonb, b)) bs, LATERAL (SELECT bs - 0) l (r);
SELECT t.blocks('[{"type":"table","rows":[]},{"type":"card"}]') AS "nothing is left of it";

-- nested and wrong things of any kind
SELECT t.types(t.blocks(jsonb_build_array(jsonb_build_object('type', k, f, v)))) FROM unnest(ARRAY['table', 'data_table', 'data_visualization', 'markdown', 'card', 'carousel', 'container', 'alert']) k,
	unnest(ARRAY['rows', 'text', 'chart', 'elements', 'child_blocks', 'title']) f, unnest(ARRAY['null', '1', '"x"', '[]', '{}', '[[]]', '[[[]]]', '[null]', '[[null]]', '[{}]', '[[{}]]', '{"type":"pie","segments":[1]}', '{"type":"bar","series":[{}],"axis_config":{"categories":[1]}}']::jsonb[]) v
	GROUP BY 1 ORDER BY 1;

-- templates: cells and labels are plain
SELECT b FROM jsonb_array_elements(stripe_sync.preview_message('x', '[{"type":"table","rows":[[{"type":"raw_text","text":"{{name}} {{id | link}} {{created | date}}"}]]},
	{"type":"data_visualization","title":"{{name}}","chart":{"type":"pie","segments":[{"label":"{{name}}","value":1}]}}]',
	'{"id":"evt_1","type":"x","livemode":true,"data":{"object":{"id":"cus_1","name":"A & B","created":0}}}') -> 'blocks') b;
