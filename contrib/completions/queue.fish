# Completion of queue, qsh, queue-sh and queued for fish 3.4 and later. What may stand where is asked of the programs,
# so this file does not know it.

function __queue_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    # What stands in front of the program (`not`, `A=b`) is none of its words.
    for i in (seq (count $before))
        if contains -- (string replace -r '.*/' '' -- $before[$i]) queue qsh queue-sh queued
            set before $before[$i..-1]
            break
        end
    end
    set -l ask queue admin complete
    if test (string replace -r '.*/' '' -- $before[1]) = queued
        set ask queued complete
    end
    set -l keep ''
    for line in (command $ask --shell fish -- $before "$current" </dev/null 2>/dev/null)
        set -l field (string split \t -- $line)
        switch $field[1]
            case k
                set keep $field[2]
            case w
                printf '%s\t%s\n' $field[2] "$field[3]"
            case f
                # As the value of an option, in the same word or by itself.
                set -l rest (string sub -s (math (string length -- "$keep") + 1) -- "$current")
                for file in (complete -C "'' $rest")
                    printf '%s\n' $keep$file
                end
            case u
                for user in (__fish_complete_users)
                    printf '%s\n' $keep$user
                end
            case c
                set -l first (math $field[2] + 1)
                set -l words
                if test $first -le (count $before)
                    set words (string escape -- $before[$first..-1])
                end
                set -l line (string join ' ' -- $words "$current")
                # In one word, since the line may begin with a dash; but then it must not be empty.
                if test -n "$line"
                    complete "-C$line"
                else
                    complete -C ''
                end
        end
    end
end

for program in queue qsh queue-sh queued
    complete -c $program -e
    complete -c $program -f -k -a '(__queue_complete)'
end
