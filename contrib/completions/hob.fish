# fish completion for hob; goes to DATADIR/fish/vendor_completions.d/hob.fish

# Never starts the daemon: a Tab must not.
function __hob_names
    hob $argv[1] --no-start 2>/dev/null | awk 'NR > 1 { print $1 }'
end

set -l answers run chat
complete -c hob -f
complete -c hob -n __fish_use_subcommand -l version -d 'Show the version'
complete -c hob -s h -l help -d 'Show help'

complete -c hob -n __fish_use_subcommand -a chat -d 'Talk with a model'
complete -c hob -n __fish_use_subcommand -a run -d 'One prompt, one answer'
complete -c hob -n __fish_use_subcommand -a ls -d 'Models there are'
complete -c hob -n __fish_use_subcommand -a ps -d 'Models that are warm'
complete -c hob -n __fish_use_subcommand -a load -d 'Bring a model into memory'
complete -c hob -n __fish_use_subcommand -a unload -d "Free a model's memory"
complete -c hob -n __fish_use_subcommand -a pin -d 'Keep a model from being evicted'
complete -c hob -n __fish_use_subcommand -a unpin -d 'Let it be evicted again'
complete -c hob -n __fish_use_subcommand -a why -d 'Explain answers, loads, evictions and refusals'
complete -c hob -n __fish_use_subcommand -a route -d 'Where a prompt would go'
complete -c hob -n __fish_use_subcommand -a providers -d 'Remote providers and how they do'
complete -c hob -n '__fish_seen_subcommand_from route; and not __fish_seen_subcommand_from explain' -a explain
complete -c hob -n '__fish_seen_subcommand_from route' -s m -l model -x -a '(__hob_names ls)' -d 'Model or route'
complete -c hob -n '__fish_seen_subcommand_from route' -s p -l prompt -x -d 'The prompt'
complete -c hob -n '__fish_seen_subcommand_from route' -s f -l file -r -F -d 'Text that goes with it'
complete -c hob -n '__fish_seen_subcommand_from route' -l image -d 'As if an image went with it'
complete -c hob -n '__fish_seen_subcommand_from route' -l tools -d 'As if tools might be called'
complete -c hob -n '__fish_seen_subcommand_from route' -l private -d 'It must not leave this machine'
complete -c hob -n '__fish_seen_subcommand_from load unload pin unpin why' -a '(__hob_names ls)'
complete -c hob -n '__fish_seen_subcommand_from load' -s k -l keep-alive -x -d 'Stay so long once idle'
complete -c hob -n '__fish_seen_subcommand_from unload' -s p -l park -d 'Keep the host copy'
complete -c hob -n __fish_use_subcommand -a usage -d 'What remote models cost'
complete -c hob -n '__fish_seen_subcommand_from usage' -s d -l days -x -d 'Of the last N days'
complete -c hob -n '__fish_seen_subcommand_from usage' -s b -l by -x -a 'model day provider conversation model,day' -d 'Sum by'
complete -c hob -n '__fish_seen_subcommand_from usage' -l no-start -d 'Fail when the daemon is not running'
complete -c hob -n __fish_use_subcommand -a cache -d 'Replay recorded requests'
complete -c hob -n '__fish_seen_subcommand_from cache; and not __fish_seen_subcommand_from simulate' -a simulate
complete -c hob -n '__fish_seen_subcommand_from simulate' -F
complete -c hob -n '__fish_seen_subcommand_from cache' -s b -l budget -x -d 'As cache.budget'
complete -c hob -n '__fish_seen_subcommand_from cache' -s p -l parked -x -d 'As cache.parked'
complete -c hob -n '__fish_seen_subcommand_from cache' -s k -l keep-alive -x -d 'As cache.keep_alive'
complete -c hob -n __fish_use_subcommand -a pull -d 'Download a model'
complete -c hob -n __fish_use_subcommand -a history -d 'Conversations there were'
complete -c hob -n __fish_use_subcommand -a serve -d 'The daemon'
complete -c hob -n __fish_use_subcommand -a stop -d 'End the daemon'
complete -c hob -n __fish_use_subcommand -a engine -d 'The worker that computes'

complete -c hob -n "__fish_seen_subcommand_from $answers" -a '(__hob_names ls)'
complete -c hob -n "__fish_seen_subcommand_from $answers" -s m -l model -x -a '(__hob_names ls)' -d 'The model'
complete -c hob -n "__fish_seen_subcommand_from $answers" -s P -l persona -x -d 'Persona of the configuration'
complete -c hob -n "__fish_seen_subcommand_from $answers" -l private -d 'Only models on this machine'
complete -c hob -n "__fish_seen_subcommand_from $answers" -l incognito -d 'Nothing is written to a disk'
complete -c hob -n "__fish_seen_subcommand_from $answers" -s s -l system -x -d 'Instructions before the prompt'
complete -c hob -n "__fish_seen_subcommand_from $answers" -s t -l temperature -x -d '0 to 2'
complete -c hob -n "__fish_seen_subcommand_from $answers" -s n -l max-tokens -x -d 'Stop after N tokens'
complete -c hob -n "__fish_seen_subcommand_from $answers ls history route providers" -l no-start -d 'Fail when the daemon is not running'
complete -c hob -n '__fish_seen_subcommand_from run' -s c -l conversation -x -a '(__hob_names history)' -d 'Go on with'
complete -c hob -n '__fish_seen_subcommand_from run' -s f -l file -r -F -d 'Text or image before the prompt'
complete -c hob -n '__fish_seen_subcommand_from run' -l image -r -F -d 'An image'
complete -c hob -n '__fish_seen_subcommand_from run' -l schema -r -F -d 'The answer is JSON of this schema'
complete -c hob -n '__fish_seen_subcommand_from run' -l seed -x -d 'Repeatable answer'
complete -c hob -n '__fish_seen_subcommand_from run' -l raw -d 'No chat: go on from the prompt as it is'
complete -c hob -n '__fish_seen_subcommand_from run' -l stats -d 'Print tokens/s on standard error'
complete -c hob -n '__fish_seen_subcommand_from chat' -s c -l continue -d 'Go on with the last conversation'
complete -c hob -n '__fish_seen_subcommand_from chat' -l conversation -x -a '(__hob_names history)' -d 'Go on with'
complete -c hob -n '__fish_seen_subcommand_from history' -a '(__hob_names history)'
complete -c hob -n '__fish_seen_subcommand_from run ls ps load unload pin unpin why route providers usage cache history pull' -l json -d 'Print JSON'

complete -c hob -n '__fish_seen_subcommand_from pull' -s l -l list -d 'Print the catalogue'
complete -c hob -n '__fish_seen_subcommand_from pull' -l from -r -F -d 'Install this local file'
complete -c hob -n '__fish_seen_subcommand_from pull' -l dir -r -F -d 'Folder of models'
complete -c hob -n '__fish_seen_subcommand_from pull' -s f -l force -d 'Replace another file'
complete -c hob -n '__fish_seen_subcommand_from pull' -s q -l quiet -d 'No progress'

complete -c hob -n '__fish_seen_subcommand_from serve' -s c -l config -r -F -d Configuration
complete -c hob -n '__fish_seen_subcommand_from serve' -s p -l port -x -d 'TCP port'
complete -c hob -n '__fish_seen_subcommand_from serve' -s s -l socket -r -F -d 'Unix socket'
complete -c hob -n '__fish_seen_subcommand_from serve' -s l -l local-only -d 'Nothing leaves this machine'
complete -c hob -n '__fish_seen_subcommand_from serve' -s v -l verbose -d 'Log more'
complete -c hob -n '__fish_seen_subcommand_from serve' -s t -l test -d 'Check the configuration'
complete -c hob -n '__fish_seen_subcommand_from pull' -a "(hob pull --list 2>/dev/null | awk '{ print \$1 }')"
